// The product of quantised weights with quantised activations.
//
// Weight rows are the vector lanes. Each thread owns a contiguous range of panels (kPanel rows); it unpacks a few
// blocks of a panel into L1 and runs every tile of activation columns over them, so weights are read and unpacked
// once however many columns there are.
//
// Exactness: the sum of one (row, column) is
//     for b = 0, 1, ...:  sum = fma(float(integer dot of block b), scale_b * d_b, sum)   [then fma(min_b, s_b, sum)]
// in this order in every kernel. Integer dots are exact in any order. Hence a result depends on its row and
// column alone: not on n, tile widths, threads, or the instruction set.
#pragma once

#include <type_traits>

#include "activations.h"
#include "table_types.h"
#include "scratch.h"

namespace ISA_NAMESPACE {

using medusa::MatMul;
using medusa::RunState;
using medusa::Worker;

constexpr int kPanel = kLanes;

template <class T> constexpr int kColumnBytes = 36 + 4 * T::kGroups;  // of a record of activations.h

// Adds one block to the sums of width columns. w: [8], scale: [groups]
template <class T, int width>
INLINE void multiply_block(const I32 * w, const F32 * scale, F32 min, const uint8_t * record, F32 * sum) {
    constexpr int kGroupDwords = 8 / T::kGroups;
    constexpr int kDwords = kDotColumns == 1 ? kGroupDwords : 1;  // of a column until it is the next one's turn
    const char * q = (const char *) record;
    const float * d = (const float *) (record + 32 * width);
    const int32_t * offset = (const int32_t *) (record + 36 * width);
    const float * sum_q = (const float *) offset;
    #pragma GCC unroll 2
    for (int g = 0; g < T::kGroups; g++) {
        #pragma GCC unroll 16
        for (int first = 0; first < width; first += kDotColumns) {
            const int columns = width - first < kDotColumns ? width - first : kDotColumns;
            const auto dword = [&](int c, int j) INLINE_LAMBDA {
                return broadcast_dword(q + 32 * (first + c) + 4 * (g * kGroupDwords + j));
            };
            I32 x[kDotColumns];
            #pragma GCC unroll 8
            for (int c = 0; c < columns; c++) x[c] = set_i(T::kOffset == 0 ? 0 : offset[(first + c) * T::kGroups + g]);
            #pragma GCC unroll 8
            for (int j = 0; j < kGroupDwords; j += kDwords) {
                #pragma GCC unroll 8
                for (int c = 0; c < columns; c++) {
                    x[c] = dot<kDwords, T::kMaxWeight, T::kSigned>(
                        x[c], w + g * kGroupDwords + j, [&](int i) INLINE_LAMBDA { return dword(c, j + i); });
                }
            }
            #pragma GCC unroll 8
            for (int c = 0; c < columns; c++) {
                F32 & s = sum[first + c];
                s = fma(to_f(x[c]), mul(scale[g], set_f(d[first + c])), s);
                if constexpr (T::kHasMin) s = fma(min, set_f(sum_q[first + c]), s);
            }
        }
    }
}

template <int width> INLINE void load_sums(const float * from, F32 * sum) {
    #pragma GCC unroll 16
    for (int c = 0; c < width; c++) sum[c] = load_f(from + c * kLanes);
}

template <int width> INLINE void store_sums(float * to, const F32 * sum) {
    #pragma GCC unroll 16
    for (int c = 0; c < width; c++) store_f(to + c * kLanes, sum[c]);
}

// Adds blocks unpacked blocks to the sums of a tile of width columns. sums: [width][kLanes]
template <class T, int width>
void multiply_tile(const PanelBlock * panel, int blocks, const uint8_t * record, float * sums) {
    F32 sum[width];
    load_sums<width>(sums, sum);
    for (int b = 0; b < blocks; b++, panel++, record += width * kColumnBytes<T>) {
        I32 w[8];
        F32 scale[T::kGroups];
        #pragma GCC unroll 8
        for (int j = 0; j < 8; j++) w[j] = load(panel->w[j]);
        for (int g = 0; g < T::kGroups; g++) scale[g] = load_f(panel->scale[g]);
        multiply_block<T, width>(w, scale, load_f(panel->min), record, sum);
    }
    store_sums<width>(sums, sum);
}

// A sink for unpack() that multiplies each block while it is in registers.
template <class T, int width> struct MultiplyBlocks {
    const uint8_t * record;
    F32 sum[width];

    INLINE void operator()(int b, const I32 * w, const F32 * scale, F32 min) {
        multiply_block<T, width>(w, scale, min, record + b * width * kColumnBytes<T>, sum);
    }
};

template <class T> using TileKernel = void (*)(const PanelBlock *, int, const uint8_t *, float *);

template <class T> TileKernel<T> tile_kernel(int width) {
    return with_width<kMaxTile>(width, [](auto w) -> TileKernel<T> { return multiply_tile<T, w>; });
}

// Unpacks count <= T::kUnit blocks from the start of rows into sink.
template <class T, class Sink> INLINE void unpack_unit(RowReader in, int count, Sink & sink) {
    static_assert(T::kUnit == 8 || T::kBlocksPerSuper == 1);
    if (count == T::kUnit) return T::template unpack<T::kUnit>(in, sink);
    if constexpr (T::kBlocksPerSuper == 1) {
        int first = 0;
        const auto part = [&](auto blocks) {
            constexpr int n = decltype(blocks)::value;
            if constexpr (n < T::kUnit) {
                if (!(count & n)) return;
                struct Shifted {
                    Sink & sink;
                    int first;
                    INLINE void operator()(int b, const I32 * w, const F32 * scale, F32 min) {
                        sink(first + b, w, scale, min);
                    }
                } shifted = {sink, first};
                T::template unpack<n>(in, shifted);
                in.rows += n * T::kBlockBytes;
                first += n;
            }
        };
        part(std::integral_constant<int, 4>());
        part(std::integral_constant<int, 2>());
        part(std::integral_constant<int, 1>());
    }
}

template <class T>
void unpack(const uint8_t * rows, size_t stride, const uint8_t * ahead, int count, PanelBlock * out) {
    StoreBlocks<T::kGroups> sink = {out};
    unpack_unit<T>({rows, stride, ahead}, count, sink);
}

// unpack and multiply_tile in one, without the way through memory.
template <class T, int width>
void unpack_and_multiply(const uint8_t * rows, size_t stride, const uint8_t * ahead, int count, const uint8_t * record,
                         float * sums) {
    MultiplyBlocks<T, width> sink;
    sink.record = record;
    load_sums<width>(sums, sink.sum);
    unpack_unit<T>({rows, stride, ahead}, count, sink);
    store_sums<width>(sums, sink.sum);
}

template <class T>
using FusedKernel = void (*)(const uint8_t *, size_t, const uint8_t *, int, const uint8_t *, float *);

// Null where unpacking into a panel is the better way.
template <class T> FusedKernel<T> fused_kernel(int64_t tiles, int width) {
    if (tiles > 1 || width > T::kMostFused) return nullptr;
    return with_width<T::kMostFused>(width, [](auto w) -> FusedKernel<T> { return unpack_and_multiply<T, w>; });
}

// A thread's share of a weight matrix, as one stretch of memory.
struct Share {
    const uint8_t *begin, *end;

    Share(const medusa::Weights & w, const Worker & worker) {
        const int64_t panels = (w.rows + kPanel - 1) / kPanel;
        begin = w.data + worker.begin(panels) * kPanel * w.row_bytes;
        end = w.data + worker.end(panels) * kPanel * w.row_bytes;
    }
};

// How weights come from memory at its full speed, which neither of these reaches alone: while a panel is multiplied,
// the next one is prefetched into L2 (in the end the first one of the thread's share of the next matrix), as fast as
// the core's own miss buffers allow; then one load of each of its lines, in order, sets off the hardware's stream
// prefetcher for what is missing. Reading 16 rows side by side, as unpacking does, never looks like a stream.
INLINE void prefetch(const uint8_t * p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) prefetch_far(p + i);
}

INLINE void touch(const uint8_t * p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) asm volatile("" : : "r"(*(const volatile uint8_t *) (p + i)));
}

template <class T> constexpr Format format_of() { return {T::kHasMin, T::kGroups, T::kOffset, false}; }

template <class T> class PanelRunner {
public:
    PanelRunner(const medusa::Weights & weights, const medusa::Rows<float> & dst, const Activations & act,
                const Share & share, const Share & next)
        : weights_(weights), dst_(dst), act_(act), share_(share), next_(next),
          sums_(thread_scratch<float>(kSumsSlot, act.tiles() * kMaxTile * kLanes)),
          fused_(fused_kernel<T>(act.tiles(), act.width(0))) {}

    // Rows [first, first + kPanel) or, if those do not exist, the last kPanel rows; stores rows >= first.
    void run(int64_t first) {
        const int64_t start = first + kPanel <= weights_.rows ? first : weights_.rows - kPanel;
        const uint8_t * rows = weights_.data + start * weights_.row_bytes;
        const bool last = start + kPanel == weights_.rows;
        const int64_t tiles = act_.tiles(), columns = padded_columns(act_);
        for (int64_t c = 0; c < columns; c++) store_f(sums_ + c * kLanes, zero_f());
        size_t position = rows - share_.begin + kPanel * weights_.row_bytes;
        touch(rows, (kPanel - 1) * weights_.row_bytes + act_.blocks / T::kBlocksPerSuper * T::kBlockBytes);
        for (int64_t b = 0; b < act_.blocks; b += T::kUnit) {
            const int count = act_.blocks - b < T::kUnit ? act_.blocks - b : T::kUnit;
            const size_t offset = b / T::kBlocksPerSuper * T::kBlockBytes;
            const size_t bytes = count / T::kBlocksPerSuper * T::kBlockBytes;
            const uint8_t * ahead = prefetch_from(position);
            position += kPanel * bytes;
            const uint8_t * from = rows + offset;
            size_t stride = weights_.row_bytes;
            if (last && count < T::kUnit) {
                copy_padded(from, bytes);
                from = padded_;
                stride = kPaddedStride;
            }
            if (fused_) {
                fused_(from, stride, ahead, count, act_.record(0, b), sums_);
                continue;
            }
            unpack<T>(from, stride, ahead, count, panel_);
            for (int64_t t = 0; t < tiles; t++) {
                tile_kernel<T>(act_.width(t))(panel_, count, act_.record(t, b), sums_ + t * kMaxTile * kLanes);
            }
        }
        store(start, first - start);
    }

private:
    const uint8_t * prefetch_from(size_t position) const {
        const size_t size = share_.end - share_.begin;
        return position < size ? share_.begin + position : next_.begin + (position - size);
    }

    // The last row of the tensor must not be over-read: its last unit is unpacked from a padded copy.
    void copy_padded(const uint8_t * rows, size_t bytes) {
        for (int r = 0; r < kPanel; r++) std::memcpy(padded_ + r * kPaddedStride, rows + r * weights_.row_bytes, bytes);
    }

    void store(int64_t start, int skip) {
        for (int64_t c = 0; c < act_.n; c++) {
            float * out = dst_[c] + start;
            const float * sum = sums_ + c * kLanes;
            if (skip == 0) {
                store_f(out, load_f(sum));
            } else {
                for (int r = skip; r < kLanes; r++) out[r] = sum[r];
            }
        }
    }

    const medusa::Weights weights_;
    const medusa::Rows<float> dst_;
    const Activations & act_;
    const Share share_, next_;
    float * sums_;  // [n padded to tiles][kLanes]
    const FusedKernel<T> fused_;
    PanelBlock panel_[T::kUnit];
    static constexpr size_t kPaddedStride = (T::kUnit * T::kBlockBytes + 15) / 16 * 16 + 16;
    uint8_t padded_[kPanel * kPaddedStride];
};

// Up to this many blocks each thread quantises for itself: cheaper than a barrier.
constexpr int64_t kPrivateBlocks = 128;
constexpr size_t kMostColumnBytes = 80;  // of a record

// What a thread's private activations hold.
struct PrivateKey {
    uint64_t run;
    const void * source;
    int format;
};
inline thread_local PrivateKey private_key;

// Activations of mm, quantised at most once per source, format and computation.
inline Activations activations(const MatMul & mm, const Format & to, const Worker & worker, RunState & run,
                               uint8_t * shared) {
    Activations act = {to, mm.n, mm.k / 32, shared};
    const int64_t items = padded_columns(act) * act.blocks;
    const int format = act.format.id();
    if (items <= kPrivateBlocks) {
        act.data = thread_scratch<uint8_t>(kActivationsSlot, kPrivateBlocks * kMostColumnBytes);
        PrivateKey & key = private_key;
        if (key.run != run.id || key.source != mm.source || key.format != format) {
            quantize(act, mm.src, 0, items);
            key = {run.id, mm.source, format};
        }
        return act;
    }
    if (run.shared_source != mm.source || run.shared_format != format) {
        quantize(act, mm.src, worker.begin(items), worker.end(items));
        worker.wait();
        if (worker.ith == 0) run.shared_source = mm.source, run.shared_format = format;
    }
    return act;
}

template <class T>
void mat_mul(const MatMul & mm, const Worker & worker, RunState & run, uint8_t * shared) {
    const int64_t panels = (mm.weights.rows + kPanel - 1) / kPanel;
    const Share share(mm.weights, worker), next(mm.next, worker);
    if (!mm.follows) prefetch(share.begin, kPanel * mm.weights.row_bytes);
    const Activations act = activations(mm, format_of<T>(), worker, run, shared);
    PanelRunner<T> runner(mm.weights, mm.dst, act, share, next);
    for (int64_t p = worker.begin(panels); p < worker.end(panels); p++) runner.run(p * kPanel);
}

}  // namespace ISA_NAMESPACE
