// Products of packed weights: copies in the order in which the kernels read them (packing.h says when they are made).
//
// A packed panel is kPanel rows, block after block, each field of a block of all rows side by side (quant_types.h), as
// large as the rows themselves. So a thread's share is one stream, which the hardware's prefetcher follows, and nothing
// is transposed. Results are those of matmul.h to the bit: the blocks are the same, and so is the order of sums.
#pragma once

#include "matmul.h"

namespace ISA_NAMESPACE {

// Packs panels [begin, end) of rows into their places in out.
template <class T> void pack(const medusa::Weights & rows, int64_t begin, int64_t end, uint8_t * out) {
    const int64_t blocks = rows.row_bytes / T::kBlockBytes;
    const auto copy = [&](const uint8_t * from, int & byte, auto bytes, int count) INLINE_LAMBDA {
        for (int i = 0; i < count; i++, byte += bytes) {
            for (int r = 0; r < kLanes; r++) {
                std::memcpy(out + byte * kLanes + r * bytes, from + r * rows.row_bytes + byte, bytes);
            }
        }
    };
    const std::integral_constant<int, 2> half;
    const std::integral_constant<int, 4> dword;
    out += begin * kPanel * rows.row_bytes;
    for (int64_t p = begin; p < end; p++) {
        for (int64_t b = 0; b < blocks; b++, out += kLanes * T::kBlockBytes) {
            const uint8_t * from = rows.data + p * kPanel * rows.row_bytes + b * T::kBlockBytes;
            int byte = 0;
            copy(from, byte, half, T::kFields.first_halves);
            copy(from, byte, dword, T::kFields.dwords);
            copy(from, byte, half, T::kFields.last_halves);
        }
    }
}

template <class T> constexpr Format packed_format() { return {T::kHasMin, T::kGroups, T::kOffset, T::kWide}; }

template <class T> constexpr int kPackedColumnBytes = kColumnBytes<T> + (T::kWide ? 32 : 0);

// Whether scales are unpacked in a pass of their own, and kept for all tiles of columns: where they are packed
// themselves, registers do not hold them and the quants at once.
template <class T> constexpr bool kKeepsScales = T::kBlocksPerSuper > 1;

template <class T> struct BlockScales {
    float scale[T::kGroups][kLanes];
    float min[kLanes];  // unused without a minimum
};

// Sinks; what they ignore is not computed.
template <class T> struct StoreScales {
    BlockScales<T> * out;

    template <class Quants> INLINE void operator()(int b, const Quants &, const F32 * scale, F32 min) const {
        for (int g = 0; g < T::kGroups; g++) store_f(out[b].scale[g], scale[g]);
        if constexpr (T::kHasMin) store_f(out[b].min, min);
    }
    INLINE void advance(int blocks) { out += blocks; }
};

// multiply_block with both operands widened.
template <int width> INLINE void multiply_wide(const PackedBytes & w, F32 scale, const uint8_t * record, F32 * sum) {
    const float * d = (const float *) (record + 64 * width);
    I32 x[width];
    #pragma GCC unroll 16
    for (int j = 0; j < 16; j++) {
        const I32 pairs = w[j];
        #pragma GCC unroll 16
        for (int c = 0; c < width; c++) {
            const I32 products = dot_wide(pairs, broadcast_dword((const char *) record + 64 * c + 4 * j));
            x[c] = j == 0 ? products : add_i(x[c], products);
            asm("" : "+x"(x[c]));  // in this order: compilers load all weights first, more than there are registers for
        }
    }
    #pragma GCC unroll 16
    for (int c = 0; c < width; c++) sum[c] = fma(to_f(x[c]), mul(scale, set_f(d[c])), sum[c]);
}

template <class T, int width> struct MultiplyQuants {
    const BlockScales<T> * scales;
    const uint8_t * record;
    F32 sum[width];

    template <class Quants> INLINE void operator()(int b, const Quants & w, const F32 * scale, F32 min) {
        const uint8_t * const block = record + b * width * kPackedColumnBytes<T>;
        if constexpr (T::kWide) {
            multiply_wide<width>(w, scale[0], block, sum);
        } else if constexpr (kKeepsScales<T>) {
            F32 kept[T::kGroups];
            for (int g = 0; g < T::kGroups; g++) kept[g] = load_f(scales[b].scale[g]);
            multiply_block<T, width>(w, kept, T::kHasMin ? load_f(scales[b].min) : zero_f(), block, sum);
        } else {
            multiply_block<T, width>(w, scale, min, block, sum);
        }
    }
    INLINE void advance(int blocks) {
        scales += blocks;
        record += blocks * width * kPackedColumnBytes<T>;
    }
};

template <class T> struct StorePanel : StoreBlocks<T::kGroups> {
    INLINE void advance(int blocks) { this->out += blocks; }
};

// Hands blocks to a sink.
template <class T, class Sink> INLINE void unpack_packed(const uint8_t * panel, int blocks, Sink & sink) {
    for (int b = 0; b < blocks; b += T::kBlocksPerSuper, panel += kLanes * T::kBlockBytes) {
        const PackedBlock block = {panel};
        T::template unpack<T::kBlocksPerSuper>(block, sink);
        sink.advance(T::kBlocksPerSuper);
    }
}

// Adds blocks of a panel to the sums of a tile of columns, prefetching as much of another stretch of weights.
template <class T, int width>
void multiply_packed(const uint8_t * panel, const uint8_t * ahead, int blocks, const BlockScales<T> * scales,
                     const uint8_t * record, float * sums) {
    MultiplyQuants<T, width> sink;
    sink.scales = scales;
    sink.record = record;
    load_sums<width>(sums, sink.sum);
    for (int b = 0; b < blocks; b += T::kBlocksPerSuper) {
        constexpr int kBytes = kLanes * T::kBlockBytes;
        const size_t offset = b / T::kBlocksPerSuper * kBytes;
        prefetch(ahead + offset, kBytes);
        unpack_packed<T>(panel + offset, T::kBlocksPerSuper, sink);
    }
    store_sums<width>(sums, sink.sum);
}

template <class T>
using PackedKernel = void (*)(const uint8_t *, const uint8_t *, int, const BlockScales<T> *, const uint8_t *, float *);

template <class T> PackedKernel<T> packed_kernel(int width) {
    return with_width<T::kMostFused>(width, [](auto w) -> PackedKernel<T> { return multiply_packed<T, w>; });
}

template <class T> class PackedRunner {
public:
    PackedRunner(const MatMul & mm, const Activations & act, const Share & share, const Share & next)
        : weights_(mm.weights), dst_(mm.dst), act_(act), share_(share), next_(next), columns_(act.tiles() * kMaxTile),
          sums_(thread_scratch<float>(kSumsSlot, kTogether * columns_ * kLanes)) {}

    // Panels [begin, end). Results of several are stored together: whole cache lines, which columns whose distance is a
    // multiple of the page's size would drive out of L1 half written.
    void run(int64_t begin, int64_t end) {
        for (int64_t panel = begin; panel < end; panel += kTogether) {
            const int count = end - panel < kTogether ? end - panel : kTogether;
            for (int i = 0; i < count; i++) multiply(panel + i, sums_ + i * columns_ * kLanes);
            for (int64_t c = 0; c < act_.n; c++) {
                float * out = dst_[c] + panel * kPanel;
                for (int i = 0; i < count; i++) store_f(out + i * kLanes, load_f(sums_ + (i * columns_ + c) * kLanes));
            }
        }
    }

private:
    static constexpr int kTogether = 2;
    static constexpr int kChunk = 256 / kLanes;  // blocks: their weights and what is unpacked of them stay in L1
    static constexpr size_t kAhead = 20 << 10;  // bytes: more than a chunk, whose scales are read first
    // For more tiles, unpacking again takes longer than storing and loading what was unpacked.
    static constexpr int kFewTiles = T::kGroups == 2 ? 1 : 4;

    // sums: [columns_][kLanes]
    void multiply(int64_t panel, float * sums) {
        const uint8_t * data = weights_.data + panel * kPanel * weights_.row_bytes;
        for (int64_t c = 0; c < padded_columns(act_); c++) store_f(sums + c * kLanes, zero_f());
        for (int64_t b = 0; b < act_.blocks; b += kChunk) {
            const int count = act_.blocks - b < kChunk ? act_.blocks - b : kChunk;
            multiply_chunk(data + b / T::kBlocksPerSuper * T::kBlockBytes * kLanes, b, count, sums);
        }
    }

    void multiply_chunk(const uint8_t * from, int64_t block, int count, float * all_sums) {
        const size_t position = from - share_.begin + kAhead, size = share_.end - share_.begin;
        const uint8_t * ahead = position < size ? share_.begin + position : next_.begin + (position - size);
        const int64_t tiles = act_.tiles();
        const auto sums = [&](int64_t tile) { return all_sums + tile * kMaxTile * kLanes; };
        if constexpr (!T::kWide) {
            if (act_.width(0) > T::kMostFused || tiles > kFewTiles) {
                prefetch(ahead, count / T::kBlocksPerSuper * T::kBlockBytes * kLanes);
                StorePanel<T> sink = {{panel_}};
                unpack_packed<T>(from, count, sink);
                for (int64_t t = 0; t < tiles; t++) {
                    tile_kernel<T>(act_.width(t))(panel_, count, act_.record(t, block), sums(t));
                }
                return;
            }
        }
        if constexpr (kKeepsScales<T>) {
            StoreScales<T> sink = {scales_};
            unpack_packed<T>(from, count, sink);
        }
        for (int64_t t = 0; t < tiles; t++) {
            packed_kernel<T>(act_.width(t))(from, t == 0 ? ahead : from, count, scales_, act_.record(t, block),
                                            sums(t));
        }
    }

    const medusa::Weights weights_;
    const medusa::Rows<float> dst_;
    const Activations & act_;
    const Share share_, next_;
    const int64_t columns_;  // n padded to tiles
    float * const sums_;  // [kTogether][columns_][kLanes]
    BlockScales<T> scales_[kKeepsScales<T> ? kChunk : 1];
    PanelBlock panel_[T::kWide ? 1 : kChunk];
};

template <class T>
void mat_mul_packed(const MatMul & mm, const Worker & worker, RunState & run, uint8_t * shared) {
    const int64_t panels = mm.weights.rows / kPanel;
    const Share share(mm.weights, worker), next(mm.next, worker);
    if (!mm.follows) prefetch(share.begin, kPanel * mm.weights.row_bytes);
    const Activations act = activations(mm, packed_format<T>(), worker, run, shared);
    PackedRunner<T> runner(mm, act, share, next);
    runner.run(worker.begin(panels), worker.end(panels));
}

}  // namespace ISA_NAMESPACE
