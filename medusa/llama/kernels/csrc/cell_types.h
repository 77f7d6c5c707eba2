// How the rows of a KV cache are read: a struct for each type of the cache.
//     kBlock                   elements that transpose() reads
//     bytes(dim)               of dim elements
//     transpose(rows, d, out)  elements [d, d + kBlock) of kLanes rows as f32, rows in lanes; out: [kBlock][kTile]
//     load<n>(row, d, out)     elements [d, d + n * kLanes) of a row as f32
//     largest_magnitudes(rows, size, out)  of each of kTile rows a bound of |x|, not finite if an x is not
// What is read is exact: f32 holds every value of these types. Rows have a multiple of kRowStep elements; a head of
// another size is copied into such a row first, with zeros at its end.
#pragma once

#include <algorithm>
#include <type_traits>

#include "cells.h"

namespace ISA_NAMESPACE {

constexpr int64_t kRowStep = 16;

inline int64_t row_size(int64_t dim) { return (dim + kRowStep - 1) / kRowStep * kRowStep; }

// A size that the compiler knows, which makes it a quarter faster; everywhere a size may be this or an int64_t.
template <int64_t n> using Fixed = std::integral_constant<int64_t, n>;

// How a KV cache is read: type and row sizes.
template <class C, class S> struct CacheFormat {
    using Cells = C;
    using Size = S;
    const Size keys, values;
};

struct F16Cells {
    static constexpr int kBlock = 8;

    static constexpr int64_t bytes(int64_t dim) { return 2 * dim; }

    INLINE static void transpose(const uint8_t * const * rows, int64_t d, float * out) {
        I32 pairs[4];  // dimensions d + 2i in the low, d + 2i + 1 in the high halves
        load_transposed([&](int lane) INLINE_LAMBDA { return rows[lane] + 2 * d; }, pairs);
        #pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            F32 even, odd;
            halves_to_f(pairs[i], even, odd);
            store_f(out + 2 * i * kTile, even);
            store_f(out + (2 * i + 1) * kTile, odd);
        }
    }

    template <int n> INLINE static void load(const uint8_t * row, int64_t d, F32 * out) {
        #pragma GCC unroll 8
        for (int j = 0; j < n; j++) out[j] = load_halves((const uint16_t *) (row + 2 * d) + j * kLanes);
    }

    template <class Size>
    INLINE static void largest_magnitudes(const uint8_t * const * rows, Size size, float * out) {
        largest_halves(rows, size, out);
    }
};

// Blocks of 32: {scale f16, 32 signed bytes}. Row sizes are whole blocks.
struct Q8_0Cells {
    static constexpr int kBlock = 32, kBlockBytes = 34;

    static constexpr int64_t bytes(int64_t dim) { return dim / kBlock * kBlockBytes; }

    INLINE static void transpose(const uint8_t * const * rows, int64_t d, float * out) {
        uint16_t scales[kLanes];
        for (int lane = 0; lane < kLanes; lane++) scales[lane] = scale(rows[lane] + bytes(d));
        const F32 s = load_halves(scales);
        for (int first = 0; first < kBlock; first += 16) {
            I32 fours[4];  // elements first + 4i .. first + 4i + 3
            load_transposed([&](int lane) INLINE_LAMBDA { return rows[lane] + bytes(d) + 2 + first; }, fours);
            #pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                float * four = out + (first + 4 * i) * kTile;
                store_f(four, mul(s, to_f(shift_right_signed<24>(shift_left<24>(fours[i])))));
                store_f(four + kTile, mul(s, to_f(shift_right_signed<24>(shift_left<16>(fours[i])))));
                store_f(four + 2 * kTile, mul(s, to_f(shift_right_signed<24>(shift_left<8>(fours[i])))));
                store_f(four + 3 * kTile, mul(s, to_f(shift_right_signed<24>(fours[i]))));
            }
        }
    }

    template <int n> INLINE static void load(const uint8_t * row, int64_t d, F32 * out) {
        const int64_t within = n * kLanes % kBlock ? d % kBlock : 0;  // d is a multiple of n * kLanes
        #pragma GCC unroll 8
        for (int j = 0; j < n; j++) {
            const int64_t element = within + j * kLanes;
            const uint8_t * block = row + bytes(d) + element / kBlock * kBlockBytes;
            out[j] = mul(set_f(half_to_float(scale(block))), load_bytes(block + 2 + element % kBlock));
        }
    }

    template <class Size>
    INLINE static void largest_magnitudes(const uint8_t * const * rows, Size size, float * out) {
        uint16_t largest[kTile] = {};  // scales, whose order is that of their bits
        for (int i = 0; i < kTile; i++) {
            for (int64_t d = 0; d < size; d += kBlock) {
                largest[i] = std::max<uint16_t>(largest[i], scale(rows[i] + bytes(d)) & 0x7FFF);
            }
        }
        for (int i = 0; i < kTile; i += kLanes) store_f(out + i, mul(load_halves(largest + i), set_f(128)));
    }

private:
    INLINE static uint16_t scale(const uint8_t * block) {
        uint16_t bits;
        std::memcpy(&bits, block, 2);
        return bits;
    }
};

// The rows of one KV head.
template <class Cells, class Size> class CellRows {
public:
    const Size size;  // elements, with what fills them up

    CellRows(const ggml::Tensor & kv, Size size_, int64_t kv_head, int64_t stream)
        : size(size_), head_((const uint8_t *) kv.data + kv_head * kv.nb[2] + stream * kv.nb[3]), stride_(kv.nb[1]),
          dim_(kv.ne[0]) {}

    int64_t dim() const {
        if constexpr (std::is_same_v<Size, int64_t>) return dim_;
        return size;
    }

    const uint8_t * row(int32_t cell) const { return head_ + cell * stride_; }

    // Has a cell's row fetched into the cache by a function for each of its lines.
    template <class Fetch> INLINE void prefetch(int32_t cell, Fetch fetch) const {
        for (int64_t byte = 0; byte < Cells::bytes(size); byte += 64) fetch(row(cell) + byte);
    }

    // Has rows[kTile] point to whole rows; copies are the slot's.
    void fill_up(Slot slot, const uint8_t ** rows) const {
        if (dim() == size) return;
        const int64_t have = Cells::bytes(dim()), whole = Cells::bytes(size);
        uint8_t * copy = thread_scratch<uint8_t>(slot, kTile * whole);
        for (int i = 0; i < kTile; i++, copy += whole) {
            std::memcpy(copy, rows[i], have);
            std::memset(copy + have, 0, whole - have);
            rows[i] = copy;
        }
    }

private:
    const uint8_t * head_;
    size_t stride_;
    int64_t dim_;
};

}  // namespace ISA_NAMESPACE
