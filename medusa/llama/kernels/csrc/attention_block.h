// Attention of one block of queries to a range of the cells that it sees (cells.h), a tile of 16 at a time.
//
// Exactness. A score depends on its query and cell alone. The exact maximum over the row comes first, so each
// weight p = exp(score - max) is the same wherever its cell lies. Sums are fixed point: they start at 1.5 times a
// power of two, where all floats nearby are multiples of one quantum, and round towards -infinity, so each addition
// adds floor(term / quantum) quanta, exactly and in any order. They therefore also split freely among threads.
// Weights are summed in f64 with a quantum of 2^-32. Weighted values are summed in f32: the sum of p * max|v|, known
// by then, bounds them and gives a row its quantum (FixedPoint). The f32 result is rounded once.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "cells.h"
#include "kernels.h"
#include "scratch.h"

namespace ISA_NAMESPACE {

constexpr int kScoredTogether = kLanes == 16 ? 6 : 2;  // query rows that share loads of keys
constexpr int kSummedTogether = kLanes == 16 ? 6 : 2;  // ... of values
constexpr int kHeld = 4;                               // vectors of sums that a row keeps in registers
constexpr int kSumLanes = 8;
constexpr double kWeightStart = 1.5 * (1 << 20);  // quantum 2^-32, for sums below 2^19
constexpr double kBoundStart = 1.5 * (1 << 30);   // quantum 2^-22, for sums below 2^29
constexpr float kLeastLogWeight = -17.4f;         // weights below e^-17.4 of the largest count as 0

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

// max|v| over [dim] halves of each of kTile cells, as f32
template <int dim> INLINE void largest_magnitudes(const uint16_t * const * cells, float * out) {
    const __m256i magnitude = _mm256_set1_epi16(0x7FFF);
    __m128i largest[kTile];  // 8 candidates each
    for (int i = 0; i < kTile; i++) {
        __m256i most = _mm256_setzero_si256();
        for (int d = 0; d < dim; d += 16) {
            const __m256i v = _mm256_loadu_si256((const __m256i *) (cells[i] + d));
            most = _mm256_max_epu16(most, _mm256_and_si256(v, magnitude));
        }
        largest[i] = _mm_max_epu16(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    }
    for (int i = 0; i < kTile; i += 8) {
        const __m128i * v = largest + i;
        __m128i pairs[4], fours[2];
        for (int j = 0; j < 4; j++) {
            pairs[j] = _mm_max_epu16(_mm_unpacklo_epi16(v[2 * j], v[2 * j + 1]), _mm_unpackhi_epi16(v[2 * j], v[2 * j + 1]));
        }
        for (int j = 0; j < 2; j++) {
            fours[j] = _mm_max_epu16(_mm_unpacklo_epi32(pairs[2 * j], pairs[2 * j + 1]),
                                     _mm_unpackhi_epi32(pairs[2 * j], pairs[2 * j + 1]));
        }
        const __m128i all = _mm_max_epu16(_mm_unpacklo_epi64(fours[0], fours[1]), _mm_unpackhi_epi64(fours[0], fours[1]));
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(all));
    }
}

// The work on one block of queries, one KV head and a range of the block's tiles.
template <int dim> class BlockRunner {
public:
    // scores: room for tiles * queries * group tiles of scores
    BlockRunner(const Attention & a, const CellPlan & plan, const Block & block, int64_t kv_head, int64_t tile_begin,
                int64_t tile_end, float * scores)
        : a_(a), block_(block), biased_(plan.biased), kv_head_(kv_head), group_(a.q->ne[2] / a.k->ne[2]),
          begin_(tile_begin), end_(tile_end), scores_(scores) {}

    int64_t rows() const { return block_.queries * group_; }

    // max_score: [queries][group], out: of these tiles. Leaves the scores in scores_ in the order of visit and
    // returns how many there are.
    size_t score(float * max_score) const {
        float * query = thread_scratch<float>(kQuerySlot, rows() * dim);
        for (int64_t r = 0; r < rows(); r++) {
            const float * q = query_row(r);
            for (int i = 0; i < dim; i += kLanes) {
                store_f(query + r * dim + i, mul(load_f(q + i), set_f(a_.scale)));
            }
            max_score[r] = -std::numeric_limits<float>::infinity();
        }
        float * keys = thread_scratch<float>(kKeysSlot, kTile * dim);
        float * out = scores_;
        for (int64_t t = begin_; t < end_; t++) {
            convert_keys(t, keys);
            prefetch_values(t);
            for (int64_t i = 0; i < block_.queries; i++) {
                if (!block_.sees(i, t)) continue;
                int64_t end = i + 1;
                while (end < block_.queries && block_.sees(end, t)) end++;
                score_rows(query + i * group_ * dim, keys, (end - i) * group_, out);
                for (; i < end; i++) {
                    for (int64_t g = 0; g < group_; g++, out += kTile) {
                        if (biased_) add_mask(i, t, out);
                        const int64_t r = i * group_ + g;
                        max_score[r] = std::fmax(max_score[r], drop_dead_scores(block_.sees(i, t), out));
                    }
                }
            }
        }
        return out - scores_;
    }

    // Turns scores into weights. mass: [queries][group], out: of these tiles.
    void weigh(const float * max_score, Mass * mass) const {
        double * sums = thread_scratch<double>(kMassSumsSlot, rows() * 2 * kSumLanes);  // [rows][weights, bounds]
        float * bounds = thread_scratch<float>(kBoundsSlot, kTile);
        for (int64_t r = 0; r < rows(); r++) {
            mass[r].used = 0;
            for (int l = 0; l < kSumLanes; l++) {
                sums[(2 * r) * kSumLanes + l] = kWeightStart;
                sums[(2 * r + 1) * kSumLanes + l] = kBoundStart;
            }
        }
        float * weights = scores_;
        for (int64_t t = begin_; t < end_; t++) {
            const uint16_t * values[kTile];
            float largest[kTile];
            find_cells(*a_.v, t, values);
            largest_magnitudes<dim>(values, largest);
            for (int64_t i = 0; i < block_.queries; i++) {
                const uint32_t live = block_.sees(i, t);
                if (!live) continue;
                for (int64_t r = i * group_; r < (i + 1) * group_; r++, weights += kTile) {
                    mass[r].used += to_weights(max_score[r], weights);
                    for (int c = 0; c < kTile; c += kLanes) {
                        const F32 bound = mul(load_f(weights + c), load_f(largest + c));
                        store_f(bounds + c, select(live, c, bound, zero_f()));
                    }
                    add_mass(weights, bounds, sums + r * 2 * kSumLanes);
                }
            }
        }
        for (int64_t r = 0; r < rows(); r++) {
            mass[r].weight = mass[r].bound = 0;
            for (int l = 0; l < kSumLanes; l++) {
                mass[r].weight += sums[(2 * r) * kSumLanes + l] - kWeightStart;
                mass[r].bound += sums[(2 * r + 1) * kSumLanes + l] - kBoundStart;
            }
        }
    }

    // sums: [queries][group][dim], the fixed-point sums of p * v, in and out.
    void accumulate(float * sums) const {
        const float * weights = scores_;
        for (int64_t t = begin_; t < end_; t++) {
            const uint16_t * values[kTile];
            find_cells(*a_.v, t, values);
            for (int64_t i = 0; i < block_.queries;) {
                const uint32_t live = block_.sees(i, t);
                int64_t end = i + 1;
                if (live) {
                    while (end < block_.queries && block_.sees(end, t) == live) end++;
                    const int64_t n = (end - i) * group_;
                    add_rows(weights, n, values, sums + i * group_ * dim);
                    weights += n * kTile;
                }
                i = end;
            }
        }
    }

    const float * query_row(int64_t r) const {
        const ggml::Tensor & q = *a_.q;
        return (const float *) ((const char *) q.data + (block_.first + r / group_) * q.nb[1] +
                                (kv_head_ * group_ + r % group_) * q.nb[2] + block_.stream * q.nb[3]);
    }

    float * output_row(int64_t r) const {
        const ggml::Tensor & o = *a_.dst;
        return (float *) ((char *) o.data + (kv_head_ * group_ + r % group_) * o.nb[1] +
                          (block_.first + r / group_) * o.nb[2] + block_.stream * o.nb[3]);
    }

private:
    // Where a tile's cells lie; asks for those of the next tile.
    void find_cells(const ggml::Tensor & kv, int64_t tile, const uint16_t ** rows) const {
        const char * head = (const char *) kv.data + kv_head_ * kv.nb[2] + block_.stream * kv.nb[3];
        const int32_t * cells = block_.cells + tile * kTile;
        const int32_t * next = tile + 1 < end_ ? cells + kTile : cells;
        for (int i = 0; i < kTile; i++) {
            rows[i] = (const uint16_t *) (head + cells[i] * kv.nb[1]);
            for (int byte = 0; byte < 2 * dim; byte += 64) _mm_prefetch(head + next[i] * kv.nb[1] + byte, _MM_HINT_T0);
        }
    }

    // The passes to come read them faster than memory gives them.
    void prefetch_values(int64_t tile) const {
        const char * head = (const char *) a_.v->data + kv_head_ * a_.v->nb[2] + block_.stream * a_.v->nb[3];
        for (int i = 0; i < kTile; i++) {
            const char * values = head + block_.cells[tile * kTile + i] * a_.v->nb[1];
            for (int byte = 0; byte < 2 * dim; byte += 64) _mm_prefetch(values + byte, _MM_HINT_T1);
        }
    }

    // out: [dim][kTile] f32, the tile's keys with cells in lanes
    void convert_keys(int64_t tile, float * out) const {
        const uint16_t * rows[kTile];
        find_cells(*a_.k, tile, rows);
        for (int c = 0; c < kTile; c += kLanes) {
            for (int d = 0; d < dim; d += 8) {
                I32 pairs[4];  // dimensions d + 2i in the low, d + 2i + 1 in the high halves
                load_transposed([&](int lane) INLINE_LAMBDA { return (const uint8_t *) (rows[c + lane] + d); }, pairs);
                #pragma GCC unroll 4
                for (int i = 0; i < 4; i++) {
                    F32 even, odd;
                    halves_to_f(pairs[i], even, odd);
                    store_f(out + (d + 2 * i) * kTile + c, even);
                    store_f(out + (d + 2 * i + 1) * kTile + c, odd);
                }
            }
        }
    }

    // Scores of rows consecutive query rows for the tile's cells; out: [rows][kTile]. A score is the sum of four
    // sums over every fourth dimension.
    template <int rows> static void score_tile(const float * query, const float * keys, float * out) {
        for (int c = 0; c < kTile; c += kLanes) {
            F32 sum[rows][4];
            #pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                #pragma GCC unroll 4
                for (int i = 0; i < 4; i++) sum[r][i] = zero_f();
            }
            for (int d = 0; d < dim; d += 4) {
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

    static void score_rows(const float * query, const float * keys, int64_t rows, float * out) {
        const auto pass = [&](auto together) {
            constexpr int n = decltype(together)::value;
            for (; rows >= n; rows -= n, query += n * dim, out += n * kTile) score_tile<n>(query, keys, out);
        };
        pass(std::integral_constant<int, kScoredTogether>());
        pass(std::integral_constant<int, kScoredTogether / 2>());
        pass(std::integral_constant<int, 1>());
    }

    void add_mask(int64_t query, int64_t tile, float * scores) const {
        const uint16_t * mask = mask_row(a_, block_.stream, block_.first + query);
        uint16_t values[kTile];
        for (int c = 0; c < kTile; c++) values[c] = mask[block_.cells[tile * kTile + c]];
        for (int c = 0; c < kTile; c += kLanes) store_f(scores + c, add(load_f(scores + c), load_halves(values + c)));
    }

    // Dead cells get -infinity. Returns the largest score.
    static float drop_dead_scores(uint32_t live, float * scores) {
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
    INLINE static int to_weights(float max_score, float * scores) {
        int used = 0;
        for (int c = 0; c < kTile; c += kLanes) {
            const F32 p = exp_nonpositive(sub(load_f(scores + c), set_f(max_score)));
            store_f(scores + c, p);
            used += __builtin_popcount(nonzero(p));
        }
        return used;
    }

    INLINE static void add_mass(const float * weights, const float * bounds, double * sums) {
        const RoundDown down;
        for (int c = 0; c < kTile; c += kDoubles) {
            double * weight = sums + c % kSumLanes, * bound = weight + kSumLanes;
            store_d(weight, add_down(load_d(weight), load_floats_d(weights + c), down));
            store_d(bound, add_down(load_d(bound), load_floats_d(bounds + c), down));
        }
    }

    template <int rows>
    static void add_tile(const float * weights, const uint16_t * const * values, float * sums) {
        uint32_t used = 0;
        for (int r = 0; r < rows; r++) {
            for (int c = 0; c < kTile; c += kLanes) used |= nonzero(load_f(weights + r * kTile + c)) << c;
        }
        const RoundDown down;
        for (int d = 0; d < dim; d += kHeld * kLanes) {
            F32 sum[rows][kHeld];
            #pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                #pragma GCC unroll 8
                for (int j = 0; j < kHeld; j++) sum[r][j] = load_f(sums + r * dim + d + j * kLanes);
            }
            for (uint32_t bits = used; bits; bits &= bits - 1) {
                const int i = __builtin_ctz(bits);
                F32 value[kHeld];
                #pragma GCC unroll 8
                for (int j = 0; j < kHeld; j++) value[j] = load_halves(values[i] + d + j * kLanes);
                #pragma GCC unroll 8
                for (int r = 0; r < rows; r++) {
                    const F32 p = set_f(weights[r * kTile + i]);
                    #pragma GCC unroll 8
                    for (int j = 0; j < kHeld; j++) sum[r][j] = fma_down(p, value[j], sum[r][j], down);
                }
            }
            #pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                #pragma GCC unroll 8
                for (int j = 0; j < kHeld; j++) store_f(sums + r * dim + d + j * kLanes, sum[r][j]);
            }
        }
    }

    static void add_rows(const float * weights, int64_t rows, const uint16_t * const * values, float * sums) {
        const auto pass = [&](auto together) {
            constexpr int n = decltype(together)::value;
            for (; rows >= n; rows -= n, weights += n * kTile, sums += n * dim) add_tile<n>(weights, values, sums);
        };
        pass(std::integral_constant<int, kSummedTogether>());
        pass(std::integral_constant<int, kSummedTogether / 2>());
        pass(std::integral_constant<int, 1>());
    }

    const Attention & a_;
    const Block & block_;
    const bool biased_;
    const int64_t kv_head_, group_, begin_, end_;
    float * const scores_;
};

}  // namespace ISA_NAMESPACE
