// Attention over an F16 KV cache, exact in the sense that the order and place of cells do not matter.
//
// A block of queries visits the cells that it sees (cells.h), a tile of 16 at a time, and shares the conversion of
// a tile's keys.
//
// Exactness. A score depends on its query and cell alone. The exact maximum over the row comes first, so each
// weight p = exp(score - max) is the same wherever its cell lies. Sums of p and p * v run in f64 as fixed point:
// they start at 1.5 * 2^20, where a double has a quantum of 2^-32, and round towards -infinity, so each addition
// adds floor(p * v / quantum) quanta, exactly and in any order, as long as a sum stays within +-2^19 (else it
// degrades to plain f64). Sums therefore also split freely among threads. The f32 result is rounded once.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include "cells.h"
#include "kernels.h"
#include "scratch.h"

namespace ISA_NAMESPACE {

using medusa::RunState;
using medusa::Worker;

constexpr int kScoredTogether = kLanes == 16 ? 6 : 2;  // query rows that share loads of keys
constexpr int kSummedTogether = kLanes == 16 ? 3 : 2;  // ... of values
constexpr int kHeld = kLanes == 16 ? 8 : 4;          // vectors of sums that a row keeps in registers
constexpr int kSumLanes = 8;
constexpr double kSumStart = 1.5 * (1 << 20);

// exp(x) for x <= 0, relative error below 2e-7, 0 below -87.
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
    return zero_below(scale_by_power(p, to_i(n)), x, set_f(-87.0f));
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

    // max_score: [queries][group], in and out. Leaves the scores in scores_ in the order of visit and returns
    // how many there are.
    size_t score(float * max_score) const {
        float * query = thread_scratch<float>(kQuerySlot, rows() * dim);
        for (int64_t r = 0; r < rows(); r++) {
            const float * q = query_row(r);
            for (int i = 0; i < dim; i += kLanes) {
                store_f(query + r * dim + i, mul(load_f(q + i), set_f(a_.scale)));
            }
        }
        float * keys = thread_scratch<float>(kKeysSlot, kTile * dim);
        float * out = scores_;
        for (int64_t t = begin_; t < end_; t++) {
            convert_keys(t, keys);
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

    // sums: [queries][group][kSumLanes + dim] fixed-point sums of p (in kSumLanes parts) and of p * v.
    // Returns how many scores it consumed.
    size_t accumulate(const float * max_score, double * sums) const {
        double * converted = thread_scratch<double>(kValuesSlot, kTile * dim);
        const float * in = scores_;
        for (int64_t t = begin_; t < end_; t++) {
            const uint16_t * values[kTile];
            find_cells(*a_.v, t, values);
            const bool shared = block_.queries > 1;
            if (shared) convert_values(values, converted);
            for (int64_t i = 0; i < block_.queries; i++) {
                const uint32_t live = block_.sees(i, t);
                if (!live) continue;
                const int64_t r = i * group_;
                double * row_sums = sums + r * (kSumLanes + dim);
                if (shared) {
                    add_rows(in, max_score + r, live, ConvertedValues{converted}, row_sums);
                } else {
                    add_rows(in, max_score + r, live, HalfValues{values}, row_sums);
                }
                in += group_ * kTile;
            }
        }
        return in - scores_;
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
    // Values of a tile's cell from dimension d on, as they are or converted to [kTile][dim] before.
    struct HalfValues {
        const uint16_t * const * cells;
        INLINE F64 load(int cell, int d) const { return load_halves_d(cells[cell] + d); }
    };
    struct ConvertedValues {
        const double * values;
        INLINE F64 load(int cell, int d) const { return load_d(values + cell * dim + d); }
    };

    static void convert_values(const uint16_t * const * cells, double * out) {
        for (int i = 0; i < kTile; i++, out += dim) {
            for (int d = 0; d < dim; d += kDoubles) store_d(out + d, load_halves_d(cells[i] + d));
        }
    }

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

    template <int rows, class Values>
    static void add_tile(const float * scores, const float * max_score, uint32_t live, const Values & values,
                         double * sums) {
        constexpr int kRow = kSumLanes + dim;
        double p[rows][kTile];
        for (int r = 0; r < rows; r++) {
            float weights[kTile];
            for (int c = 0; c < kTile; c += kLanes) {
                const F32 score = load_f(scores + r * kTile + c);
                store_f(weights + c, exp_nonpositive(sub(score, set_f(max_score[r]))));
            }
            for (int c = 0; c < kTile; c += kDoubles) store_d(p[r] + c, load_floats_d(weights + c));
        }
        const RoundDown down;
        for (int r = 0; r < rows; r++) {
            for (int c = 0; c < kTile; c += kDoubles) {
                double * sum = sums + r * kRow + c % kSumLanes;
                store_d(sum, add_down(load_d(sum), load_d(p[r] + c), down));
            }
        }
        sums += kSumLanes;
        for (int d = 0; d < dim; d += kHeld * kDoubles) {
            F64 sum[rows][kHeld];
            #pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                #pragma GCC unroll 8
                for (int j = 0; j < kHeld; j++) sum[r][j] = load_d(sums + r * kRow + d + j * kDoubles);
            }
            for (uint32_t bits = live; bits; bits &= bits - 1) {
                const int i = __builtin_ctz(bits);
                #pragma GCC unroll 8
                for (int j = 0; j < kHeld; j++) {
                    const F64 value = values.load(i, d + j * kDoubles);
                    #pragma GCC unroll 4
                    for (int r = 0; r < rows; r++) sum[r][j] = fma_down(set_d(p[r][i]), value, sum[r][j], down);
                }
            }
            #pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                #pragma GCC unroll 8
                for (int j = 0; j < kHeld; j++) store_d(sums + r * kRow + d + j * kDoubles, sum[r][j]);
            }
        }
    }

    // The rows of one query.
    template <class Values>
    void add_rows(const float * scores, const float * max_score, uint32_t live, const Values & values,
                  double * sums) const {
        int64_t rows = group_;
        for (; rows >= kSummedTogether; rows -= kSummedTogether) {
            add_tile<kSummedTogether>(scores, max_score, live, values, sums);
            scores += kSummedTogether * kTile, max_score += kSummedTogether;
            sums += kSummedTogether * (kSumLanes + dim);
        }
        for (; rows > 0; rows--, scores += kTile, max_score++, sums += kSumLanes + dim) {
            add_tile<1>(scores, max_score, live, values, sums);
        }
    }

    const Attention & a_;
    const Block & block_;
    const bool biased_;
    const int64_t kv_head_, group_, begin_, end_;
    float * const scores_;
};

// How one operation is cut into work. Items are (block of queries, KV head), the head fastest. Each goes to the
// thread with the least to do so far or, where that would still leave threads idle, every thread takes its share of
// the tiles of each item and the parts are added up at the end.
constexpr int64_t kMaxSplitRows = 1024;  // query rows; more are enough work for any number of threads
constexpr int64_t kBarrierTiles = 8;     // what a split costs, in tiles of one query

struct Division {
    const CellPlan & plan;
    int64_t kv_heads, group, items;
    int32_t * owner;  // [items] thread
    bool split;

    Division(const Attention & a, uint64_t run, int nth)
        : plan(cell_plan(a, run)), kv_heads(a.k->ne[2]), group(a.q->ne[2] / kv_heads), items(plan.count * kv_heads),
          owner(thread_scratch<int32_t>(kOwnerSlot, items)) {
        int64_t * load = thread_scratch<int64_t>(kLoadSlot, nth);  // tiles of one query
        std::memset(load, 0, nth * sizeof(int64_t));
        int64_t all = 0, most = 0;
        for (int64_t item = 0; item < items; item++) {
            int least = 0;
            for (int t = 1; t < nth; t++) least = load[t] < load[least] ? t : least;
            const int64_t tiles = block(item).tiles * block(item).queries;
            owner[item] = least;
            load[least] += tiles;
            most = load[least] > most ? load[least] : most;
            all += tiles;
        }
        split = nth > 1 && plan.tokens * plan.streams * kv_heads * group <= kMaxSplitRows &&
                most - all / nth > kBarrierTiles;
    }

    const Block & block(int64_t item) const { return plan.blocks[item / kv_heads]; }
    int64_t kv_head(int64_t item) const { return item % kv_heads; }
    int64_t rows(int64_t item) const { return block(item).queries * group; }

    // Of the item, among those of all items.
    int64_t first_row(int64_t item) const {
        const Block & b = block(item);
        return (b.stream * plan.tokens + b.first) * kv_heads * group + kv_head(item) * rows(item);
    }
};

inline int64_t all_rows(const Attention & a) { return a.q->ne[1] * a.q->ne[2] * a.q->ne[3]; }

inline void start_sums(double * sums, int64_t count) {
    for (int64_t i = 0; i < count; i++) sums[i] = kSumStart;
}

// Adds the parts of a row and writes its output. parts: [splits] rows, stride doubles apart
template <int dim> void finish_row(const double * parts, int splits, size_t stride, float * out) {
    const auto total = [&](int i) {  // exact: multiples of one quantum
        double sum = 0;
        for (int s = 0; s < splits; s++) sum += parts[s * stride + i] - kSumStart;
        return sum;
    };
    double weights = 0;
    for (int l = 0; l < kSumLanes; l++) weights += total(l);
    for (int d = 0; d < dim; d++) out[d] = weights > 0 ? float(total(kSumLanes + d) / weights) : 0.0f;
}

template <int dim> void attend_whole(const Attention & a, const Division & div, const Worker & worker) {
    constexpr int64_t row = kSumLanes + dim;
    for (int64_t item = 0; item < div.items; item++) {
        if (div.owner[item] != worker.ith) continue;
        const Block & block = div.block(item);
        const int64_t rows = div.rows(item);
        float * memory = thread_scratch<float>(kScoreSlot, rows * (block.tiles * kTile + 1 + 2 * row));
        double * sums = (double *) memory;  // [rows][row]
        float * max_score = memory + 2 * rows * row;
        const BlockRunner<dim> runner(a, div.plan, block, div.kv_head(item), 0, block.tiles, max_score + rows);
        for (int64_t r = 0; r < rows; r++) max_score[r] = -std::numeric_limits<float>::infinity();
        start_sums(sums, rows * row);
        runner.score(max_score);
        runner.accumulate(max_score, sums);
        for (int64_t r = 0; r < rows; r++) finish_row<dim>(sums + r * row, 1, 0, runner.output_row(r));
    }
}

template <int dim>
void attend_split(const Attention & a, const Division & div, const Worker & worker, uint8_t * scratch) {
    constexpr int64_t row = kSumLanes + dim;
    const int64_t splits = worker.nth, split = worker.ith;
    double * all_sums = (double *) scratch;                                // [all rows][splits][row]
    float * all_max = (float *) (all_sums + all_rows(a) * splits * row);  // [all rows][splits]
    size_t n_scores = 0;
    for (int64_t item = 0; item < div.items; item++) {
        n_scores += div.rows(item) * (div.block(item).tiles / splits + 1) * kTile;
    }
    float * max_score = thread_scratch<float>(kScoreSlot, kMaxQueries * div.group + n_scores);
    float * scores = max_score + kMaxQueries * div.group;

    const auto runner = [&](int64_t item, float * item_scores) {
        const Block & block = div.block(item);
        return BlockRunner<dim>(a, div.plan, block, div.kv_head(item), block.tiles * split / splits,
                                block.tiles * (split + 1) / splits, item_scores);
    };

    float * next = scores;
    for (int64_t item = 0; item < div.items; item++) {
        const int64_t rows = div.rows(item);
        for (int64_t r = 0; r < rows; r++) max_score[r] = -std::numeric_limits<float>::infinity();
        next += runner(item, next).score(max_score);
        for (int64_t r = 0; r < rows; r++) all_max[(div.first_row(item) + r) * splits + split] = max_score[r];
    }
    worker.wait();
    next = scores;
    for (int64_t item = 0; item < div.items; item++) {
        const int64_t rows = div.rows(item), first = div.first_row(item);
        double * sums = thread_scratch<double>(kPartSlot, rows * row);
        for (int64_t r = 0; r < rows; r++) {
            const float * parts = all_max + (first + r) * splits;
            max_score[r] = parts[0];
            for (int64_t s = 1; s < splits; s++) max_score[r] = std::fmax(max_score[r], parts[s]);
        }
        start_sums(sums, rows * row);
        next += runner(item, next).accumulate(max_score, sums);
        for (int64_t r = 0; r < rows; r++) {
            std::memcpy(all_sums + ((first + r) * splits + split) * row, sums + r * row, row * sizeof(double));
        }
    }
    worker.wait();
    for (int64_t item = 0; item < div.items; item++) {
        const int64_t rows = div.rows(item), first = div.first_row(item);
        for (int64_t r = worker.begin(rows); r < worker.end(rows); r++) {
            finish_row<dim>(all_sums + (first + r) * splits * row, splits, row, runner(item, nullptr).output_row(r));
        }
    }
}

// What a split needs, whether or not there will be one.
inline size_t attention_scratch(const Attention & a, int nth) {
    const int64_t rows = all_rows(a);
    if (nth == 1 || rows > kMaxSplitRows) return 0;
    return rows * nth * ((kSumLanes + a.q->ne[0]) * sizeof(double) + sizeof(float));
}

template <int dim>
void attend(const Attention & a, const Worker & worker, uint64_t run, uint8_t * scratch) {
    const Division div(a, run, worker.nth);
    if (div.split) {
        attend_split<dim>(a, div, worker, scratch);
    } else {
        attend_whole<dim>(a, div, worker);
    }
}

inline void attention(const Attention & a, const Worker & worker, const RunState & run, uint8_t * scratch) {
    if (a.q->ne[0] == 64) {
        attend<64>(a, worker, run.id, scratch);
    } else {
        attend<128>(a, worker, run.id, scratch);
    }
}

}  // namespace ISA_NAMESPACE
