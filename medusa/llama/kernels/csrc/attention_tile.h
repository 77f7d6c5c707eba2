// Arithmetic on one tile of 16 cells: scores, weights and their sums. attention_block.h knows where they lie.
//
// Exactness. A score depends on its query and cell alone. The exact maximum over the row comes first, so each
// weight p = exp(score - max) is the same wherever its cell lies. Sums are fixed point: they start at 1.5 times a
// power of two, where all floats nearby are multiples of one quantum, and round towards -infinity, so each addition
// adds floor(term / quantum) quanta, exactly and in any order. They therefore also split freely among threads.
// Weights are summed in f64 with a quantum of 2^-32. Weighted values are summed in f32: the sum of p * max|v|, known
// by then, bounds them and gives a row its quantum (FixedPoint). The f32 result is rounded once.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include "cell_types.h"

namespace ISA_NAMESPACE {

constexpr int kScoredTogether = kLanes == 16 ? 6 : 2;  // query rows that share loads of keys
constexpr int kSummedTogether = kLanes == 16 ? 6 : 2;  // ... of values
constexpr int kHeld = 4;                               // vectors of sums that a row keeps in registers
constexpr int kSumLanes = 8;
constexpr double kWeightStart = 1.5 * (1 << 20);  // quantum 2^-32, for sums below 2^19
constexpr double kBoundStart = 1.5 * (1 << 30);   // quantum 2^-22, for sums below 2^29
constexpr float kLeastLogWeight = -17.4f;         // weights below e^-17.4 of the largest count as 0

// Calls work(n, first) for all rows in groups of most, then of half as many, then one by one; n is a constant.
template <int most, class Work> INLINE void in_groups(int64_t rows, Work work) {
    int64_t first = 0;
    const auto groups_of = [&](auto n) INLINE_LAMBDA {
        for (; rows - first >= n; first += n) work(n, first);
    };
    groups_of(std::integral_constant<int, most>());
    groups_of(std::integral_constant<int, most / 2>());
    groups_of(std::integral_constant<int, 1>());
}

// What is known of a row before its values are summed.
struct Mass {
    double weight = 0;  // sum of p
    double bound = 0;   // sum of p * max|v|; not finite if a value of any cell that the row sees is not
    int64_t used = 0;   // weights that are not 0

    void add(const Mass & other) { weight += other.weight, bound += other.bound, used += other.used; }
};

// A row's sums of p * v: they start at start and go up and down by multiples of quantum.
struct FixedPoint {
    float start;
    double quantum;

    // Sums stay within +-range, a power of two above the bound. Rounding down has taken up to a quantum a term from
    // the bound and will take as much from the sums: the margin covers both for up to 400,000 cells.
    explicit FixedPoint(const Mass & mass) {
        constexpr double kBoundQuantum = 1.0 / (1 << 22);
        int exponent = 0;
        std::frexp(1.125 * (mass.bound + mass.used * kBoundQuantum), &exponent);
        const double range = std::ldexp(1.0, exponent);
        start = float(3 * range);
        quantum = std::ldexp(range, -22);
    }
};

// exp(x) for x <= 0, relative error below 2e-7; 0 below kLeastLogWeight.
INLINE F32 exp_nonpositive(F32 x) {
    const F32 n = round_f(mul(x, set_f(1.44269504f)));
    F32 r = fma(n, set_f(-0.693359375f), x);
    r = fma(n, set_f(2.12194440e-4f), r);
    F32 p = set_f(1.9875691500e-4f);
    p = fma(p, r, set_f(1.3981999507e-3f));
    p = fma(p, r, set_f(8.3334519073e-3f));
    p = fma(p, r, set_f(4.1665795894e-2f));
    p = fma(p, r, set_f(1.6666665459e-1f));
    p = fma(p, r, set_f(5.0000001201e-1f));
    p = add(fma(p, mul(r, r), r), set_f(1.0f));
    return zero_below(scale_by_power(p, to_i(n)), x, set_f(kLeastLogWeight));
}

// tanh(x), relative error below 3e-7. Near 0 Cephes' polynomial, elsewhere (1 - e^-2|x|) / (1 + e^-2|x|).
INLINE F32 hyperbolic_tangent(F32 x) {
    const F32 one = set_f(1.0f), size = magnitude(x), square = mul(x, x);
    F32 p = set_f(-5.70498872745e-3f);
    p = fma(p, square, set_f(2.06390887954e-2f));
    p = fma(p, square, set_f(-5.37397155531e-2f));
    p = fma(p, square, set_f(1.33314422036e-1f));
    p = fma(p, square, set_f(-3.33332819422e-1f));
    p = fma(mul(p, square), size, size);
    const F32 e = exp_nonpositive(mul(size, set_f(-2.0f)));
    const F32 far = div(sub(one, e), add(one, e));
    return with_sign(where_below(size, set_f(0.625f), p, far), x);
}

// cap(scores) of a row, given as quotients by the cap.
inline void cap_scores(float soft_cap, float * scores) {
    for (int c = 0; c < kTile; c += kLanes) {
        store_f(scores + c, mul(set_f(soft_cap), hyperbolic_tangent(load_f(scores + c))));
    }
}

// Scores of rows consecutive query rows for the tile's cells; out: [rows][kTile]. A score is the sum of four
// sums over every fourth dimension.
template <int rows, class Size> void score_tile(const float * query, const float * keys, Size dim, float * out) {
    for (int c = 0; c < kTile; c += kLanes) {
        F32 sum[rows][4];
        #pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            #pragma GCC unroll 4
            for (int i = 0; i < 4; i++) sum[r][i] = zero_f();
        }
        for (int64_t d = 0; d < dim; d += 4) {
            #pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                const F32 key = load_f(keys + (d + i) * kTile + c);
                #pragma GCC unroll 8
                for (int r = 0; r < rows; r++) sum[r][i] = fma(set_f(query[r * dim + d + i]), key, sum[r][i]);
            }
        }
        #pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            store_f(out + r * kTile + c, add(add(sum[r][0], sum[r][1]), add(sum[r][2], sum[r][3])));
        }
    }
}

// Dead cells get -infinity. Returns the largest score.
inline float drop_dead_scores(uint32_t live, float * scores) {
    const F32 dead = set_f(-std::numeric_limits<float>::infinity());
    F32 largest = dead;
    for (int c = 0; c < kTile; c += kLanes) {
        const F32 s = select(live, c, load_f(scores + c), dead);
        store_f(scores + c, s);
        largest = max(largest, s);
    }
    return max_lane(largest);
}

// Scores of a row to weights. Returns how many are not 0.
INLINE int to_weights(float max_score, float * scores) {
    int used = 0;
    for (int c = 0; c < kTile; c += kLanes) {
        const F32 p = exp_nonpositive(sub(load_f(scores + c), set_f(max_score)));
        store_f(scores + c, p);
        used += __builtin_popcount(nonzero(p));
    }
    return used;
}

// That of one score, given the largest of its row.
inline float weight_of(float score, float max_score) {
    if (score == -std::numeric_limits<float>::infinity()) return 0;
    float weights[kLanes];
    store_f(weights, exp_nonpositive(set_f(score - max_score)));
    return weights[0];
}

// Adds a row's weights and bounds of values to its sums: [weights, bounds][kSumLanes].
INLINE void add_mass(const float * weights, const float * bounds, double * sums) {
    const RoundDown down;
    for (int c = 0; c < kTile; c += kDoubles) {
        double *weight = sums + c % kSumLanes, *bound = weight + kSumLanes;
        store_d(weight, add_down(load_d(weight), load_floats_d(weights + c), down));
        store_d(bound, add_down(load_d(bound), load_floats_d(bounds + c), down));
    }
}

// Adds p * v of rows consecutive query rows to their sums: [rows][dim].
template <class Cells, int rows, class Size>
void add_tile(const float * weights, const uint8_t * const * values, Size dim, float * sums) {
    uint32_t used = 0;
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < kTile; c += kLanes) used |= nonzero(load_f(weights + r * kTile + c)) << c;
    }
    const RoundDown down;
    const auto add_columns = [&](auto held, int64_t first) INLINE_LAMBDA {
        constexpr int n = held;
        float * out = sums + first;
        F32 sum[rows][n];
        #pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            #pragma GCC unroll 8
            for (int j = 0; j < n; j++) sum[r][j] = load_f(out + r * dim + j * kLanes);
        }
        for (uint32_t bits = used; bits; bits &= bits - 1) {
            const int i = __builtin_ctz(bits);
            F32 value[n];
            Cells::template load<n>(values[i], first, value);
            #pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                const F32 p = set_f(weights[r * kTile + i]);
                #pragma GCC unroll 8
                for (int j = 0; j < n; j++) sum[r][j] = fma_down(p, value[j], sum[r][j], down);
            }
        }
        #pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            #pragma GCC unroll 8
            for (int j = 0; j < n; j++) store_f(out + r * dim + j * kLanes, sum[r][j]);
        }
    };
    constexpr int64_t step = kHeld * kLanes;
    const int64_t whole = dim / step * step;
    #pragma GCC unroll 2
    for (int64_t d = 0; d < whole; d += step) add_columns(std::integral_constant<int, kHeld>(), d);
    for (int64_t d = whole; d < dim; d += kLanes) add_columns(std::integral_constant<int, 1>(), d);
}

}  // namespace ISA_NAMESPACE
