// Quantised activations: the signed operand of the matrix kernel.
//
// Every block of 32 values of a row becomes 32 int8 and a scale d = max|x| / 127 (f32), from that row alone, so
// neither the other rows of a batch nor the threads change it. Rows (columns of the product) are laid out in
// tiles of up to kMaxTile; within a tile, record b holds block b of all its columns:
//     int8 or int16 q[width][32]; float d[width]; int32 or float correction[width][groups]
// so that a kernel walks one pointer. correction is what the unsigned weights need:
//     without a minimum   -offset * sum(q)  (int32, per group; the start value of the integer sum)
//     with a minimum      d * sum(q)        (f32, multiplied by the weights' min)
#pragma once

#include <type_traits>

#include "kernels.h"

namespace ISA_NAMESPACE {

struct Format {
    bool has_min;
    int groups;  // scale groups a block
    int offset;
    bool wide;  // int16 instead of int8

    // Equal ids mean equal bytes for equal activations.
    int id() const { return has_min ? 1 : (offset * 4 + groups) * 2 + wide + 2; }
    int quant_bytes() const { return wide ? 64 : 32; }  // of a block
    size_t column_bytes() const { return quant_bytes() + 4 + 4 * groups; }  // of one record
};

// Widths of tiles that have kernels of their own.
constexpr int kWidths[] = {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16};

// The width of a tile for columns; if it is wider, zero columns fill it up.
inline int tile_width(int64_t columns) {
    for (int w : kWidths) {
        if (columns <= w) return w < kMaxTile ? w : kMaxTile;
    }
    return kMaxTile;
}

// f(width) with the width as a constant, for one of kWidths up to most.
template <int most, size_t i = 0, class F> auto with_width(int width, F f) {
    constexpr int candidate = kWidths[i];
    if constexpr (candidate >= most) {
        return f(std::integral_constant<int, candidate>());
    } else {
        return width == candidate ? f(std::integral_constant<int, candidate>()) : with_width<most, i + 1>(width, f);
    }
}

// The activations of one product: n columns of blocks blocks.
struct Activations {
    Format format;
    int64_t n, blocks;
    uint8_t * data;

    int64_t tiles() const { return (n + kMaxTile - 1) / kMaxTile; }
    int width(int64_t tile) const { return tile_width(n - tile * kMaxTile); }
    size_t record_bytes(int width) const { return width * format.column_bytes(); }
    size_t bytes() const {
        return (tiles() - 1) * blocks * record_bytes(kMaxTile) + blocks * record_bytes(width(tiles() - 1));
    }
    uint8_t * record(int64_t tile, int64_t block) const {
        return data + tile * blocks * record_bytes(kMaxTile) + block * record_bytes(width(tile));
    }
};

// Quantises items [begin, end) of the columns x blocks grid into place. Padding columns count as columns of zeros.
inline void quantize(const Activations & act, const medusa::Rows<const float> & src, int64_t begin, int64_t end) {
    const Format & f = act.format;
    for (int64_t item = begin; item < end; item++) {
        const int64_t column = item / act.blocks, block = item % act.blocks;
        const int64_t tile = column / kMaxTile;
        const int c = column % kMaxTile, width = act.width(tile);
        uint8_t * record = act.record(tile, block);
        int8_t * q = (int8_t *) record + f.quant_bytes() * c;
        float * d = (float *) (record + f.quant_bytes() * width) + c;
        void * correction = record + (f.quant_bytes() + 4) * width + 4 * f.groups * c;
        if (column >= act.n) {
            std::memset(q, 0, f.quant_bytes());
            std::memset(d, 0, 4);
            std::memset(correction, 0, 4 * f.groups);
            continue;
        }
        int sums[2];
        *d = quantize_block(src[column] + 32 * block, q, sums);
        if (f.wide) widen_block(q);
        if (f.has_min) {
            *(float *) correction = *d * float(sums[0] + sums[1]);
        } else if (f.groups == 1) {
            *(int32_t *) correction = -f.offset * (sums[0] + sums[1]);
        } else {
            ((int32_t *) correction)[0] = -f.offset * sums[0];
            ((int32_t *) correction)[1] = -f.offset * sums[1];
        }
    }
}

// Columns including the padding of the last tile: what quantize has to cover, times blocks.
inline int64_t padded_columns(const Activations & act) {
    return (act.tiles() - 1) * kMaxTile + act.width(act.tiles() - 1);
}

}  // namespace ISA_NAMESPACE
