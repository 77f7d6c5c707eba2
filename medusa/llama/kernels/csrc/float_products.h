// Products whose weights are floats.
//
// Exactness: element i of a row and of a column goes to lane i % 16; each of the 16 lanes adds its products in order,
// in one chain of fused multiply-adds, and sum_lanes adds the lanes in an order of its own. Shapes of tiles, threads
// and vector width change nothing.
#pragma once

#include <type_traits>

#include "shares.h"

namespace ISA_NAMESPACE {

using medusa::Group;
using medusa::Products;

constexpr int kChains = 16;
constexpr int kParts = kChains / kLanes;  // vectors that hold the lanes of one sum

struct F32Weights {
    using Element = float;
    INLINE static F32 load(const float * w) { return load_f(w); }
};
struct F16Weights {
    using Element = uint16_t;
    INLINE static F32 load(const uint16_t * w) { return load_halves(w); }
};
struct Bf16Weights {
    using Element = uint16_t;
    INLINE static F32 load(const uint16_t * w) { return load_bf16(w); }
};

// The products of rows weight rows with columns columns. out[r * columns + c]
template <class W, int rows, int columns>
void float_tile(const typename W::Element * const * w, const float * const * x, int64_t k, float * out) {
    F32 sum[rows][columns][kParts];
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < columns; c++) {
            for (int p = 0; p < kParts; p++) sum[r][c][p] = zero_f();
        }
    }
    const auto add = [&](auto weights, auto values) INLINE_LAMBDA {
        #pragma GCC unroll 2
        for (int p = 0; p < kParts; p++) {
            F32 row[rows];
            #pragma GCC unroll 8
            for (int r = 0; r < rows; r++) row[r] = W::load(weights(r) + p * kLanes);
            #pragma GCC unroll 8
            for (int c = 0; c < columns; c++) {
                const F32 value = load_f(values(c) + p * kLanes);
                #pragma GCC unroll 8
                for (int r = 0; r < rows; r++) sum[r][c][p] = fma(row[r], value, sum[r][c][p]);
            }
        }
    };
    int64_t i = 0;
    for (; i + kChains <= k; i += kChains) {
        add([&](int r) INLINE_LAMBDA { return w[r] + i; }, [&](int c) INLINE_LAMBDA { return x[c] + i; });
    }
    if (i < k) {
        typename W::Element last_w[rows][kChains] = {};
        float last_x[columns][kChains] = {};
        for (int r = 0; r < rows; r++) std::memcpy(last_w[r], w[r] + i, (k - i) * sizeof(typename W::Element));
        for (int c = 0; c < columns; c++) std::memcpy(last_x[c], x[c] + i, (k - i) * sizeof(float));
        add([&](int r) INLINE_LAMBDA { return last_w[r]; }, [&](int c) INLINE_LAMBDA { return last_x[c]; });
    }
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < columns; c++) out[r * columns + c] = sum_lanes(sum[r][c]);
    }
}

template <class W> using FloatKernel = void (*)(const typename W::Element * const *, const float * const *, int64_t,
                                                float *);

template <class W, int rows, int columns = 1> FloatKernel<W> float_kernel(int64_t wanted) {
    if constexpr (columns == kFloatColumns) {
        return float_tile<W, rows, columns>;
    } else {
        return wanted == columns ? float_tile<W, rows, columns> : float_kernel<W, rows, columns + 1>(wanted);
    }
}

// All of count <= kFloatRows rows, from row first of the product on, with columns [begin, end).
template <class W>
void multiply_rows(const Products & p, const typename W::Element * const * w, int64_t first, int64_t count,
                   int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c += kFloatColumns) {
        const int64_t columns = end - c < kFloatColumns ? end - c : kFloatColumns;
        const float * x[kFloatColumns];
        float out[kFloatRows * kFloatColumns];
        for (int64_t i = 0; i < columns; i++) x[i] = p.src[c + i];
        if (count == kFloatRows) {
            float_kernel<W, kFloatRows>(columns)(w, x, p.k, out);
        } else {
            const auto one_row = float_kernel<W, 1>(columns);
            for (int64_t r = 0; r < count; r++) one_row(w + r, x, p.k, out + r * columns);
        }
        for (int64_t i = 0; i < columns; i++) {
            for (int64_t r = 0; r < count; r++) p.dst[c + i][first + r] = out[r * columns + i];
        }
    }
}

// Each thread takes a share of the rows of all groups.
template <class W> void float_shares(const Products & p, const Worker & worker) {
    using Element = typename W::Element;
    const int64_t blocks = (p.rows + kFloatRows - 1) / kFloatRows;
    medusa::for_shares(p, blocks, worker, p.k * sizeof(float),
                       [&](const Group & group, int64_t block, int64_t begin, int64_t end) {
                           const int64_t first = block * kFloatRows;
                           const int64_t count = p.rows - first < kFloatRows ? p.rows - first : kFloatRows;
                           const Element * w[kFloatRows] = {};
                           for (int64_t r = 0; r < count; r++)
                               w[r] = (const Element *) (group.weights + (first + r) * p.row_bytes);
                           multiply_rows<W>(p, w, first, count, begin, end);
                       });
}

inline void float_products(const Products & p, const Worker & worker) {
    switch (p.type) {
        case ggml::kF16: return float_shares<F16Weights>(p, worker);
        case ggml::kBF16: return float_shares<Bf16Weights>(p, worker);
        default: return float_shares<F32Weights>(p, worker);
    }
}

}  // namespace ISA_NAMESPACE
