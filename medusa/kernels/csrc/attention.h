// Attention over an F16 KV cache, exact in the sense that the order and place of cells do not matter.
//
// Cells are taken 16 at a time (a tile); tiles in which a query sees no cell cost it one comparison. A block of
// queries shares the conversion of a tile's keys and values.
//
// Exactness. A score depends on its query and cell alone. The exact maximum over the row comes first, so each
// weight p = exp(score - max) is the same wherever its cell lies. Sums of p and p * v run in f64 as fixed point:
// they start at 1.5 * 2^20, where a double has a quantum of 2^-32, and round towards -infinity, so each addition
// adds floor(p * v / quantum) quanta, exactly and in any order, as long as a sum stays within +-2^19 (else it
// degrades to plain f64). Sums therefore also split freely among threads. The f32 result is rounded once.
#pragma once

#include <cmath>
#include <limits>

#include "kernels.h"
#include "scratch.h"

namespace ISA_NAMESPACE {

using medusa::Attention;
using medusa::RunState;
using medusa::Worker;

constexpr int kTile = 16;        // cells
constexpr int kMaxQueries = 8;   // a block
constexpr int kRowsTogether = kLanes == 16 ? 3 : 2;  // query rows that share a load of keys
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

// The tiles that some query of a block sees, and which cells each query sees in them.
struct TileList {
    uint64_t run;
    const void * mask;
    int64_t stream, first_query, queries, cells;
    int64_t count;
    int32_t * tile;   // [count]
    uint16_t * live;  // [count][queries]
};

inline const uint16_t * mask_row(const Attention & a, int64_t stream, int64_t query) {
    return (const uint16_t *) ((const char *) a.mask->data + query * a.mask->nb[1] +
                               (stream % a.mask->ne[3]) * a.mask->nb[3]);
}

// The list is kept for the next heads and layers, which have the same mask.
inline const TileList & tile_list(const Attention & a, uint64_t run, int64_t stream, int64_t first, int64_t queries) {
    static thread_local TileList list = {};
    const int64_t cells = a.k->ne[1], tiles = cells / kTile;
    const void * mask = a.mask ? a.mask : nullptr;
    if (list.run == run && list.mask == mask && list.stream == stream && list.first_query == first &&
        list.queries == queries && list.cells == cells) {
        return list;
    }
    const size_t bytes = tiles * (sizeof(int32_t) + queries * sizeof(uint16_t));
    list = {run, mask, stream, first, queries, cells, 0, thread_scratch<int32_t>(kTileSlot, bytes / 4 + 1), nullptr};
    list.live = (uint16_t *) (list.tile + tiles);
    for (int64_t t = 0; t < tiles; t++) {
        uint16_t * live = list.live + list.count * queries;
        uint32_t any = 0;
        for (int64_t i = 0; i < queries; i++) {
            live[i] = a.mask ? live_cells(mask_row(a, stream, first + i) + t * kTile) : 0xFFFF;
            any |= live[i];
        }
        if (any) list.tile[list.count++] = t;
    }
    return list;
}

// The work on one block of queries, one KV head and a range of the block's tiles.
template <int dim> class BlockRunner {
public:
    // scores: room for tiles * queries * group tiles of scores
    BlockRunner(const Attention & a, const TileList & list, int64_t kv_head, int64_t tile_begin, int64_t tile_end,
                float * scores)
        : a_(a), list_(list), kv_head_(kv_head), group_(a.q->ne[2] / a.k->ne[2]), begin_(tile_begin), end_(tile_end),
          scores_(scores) {}

    int64_t rows() const { return list_.queries * group_; }

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
        float * keys = thread_scratch<float>(kCellSlot, kTile * dim);
        float * out = scores_;
        for (int64_t t = begin_; t < end_; t++) {
            convert_keys(list_.tile[t], keys);
            for (int64_t i = 0; i < list_.queries; i++) {
                const uint32_t live = list_.live[t * list_.queries + i];
                if (!live) continue;
                score_rows(query + i * group_ * dim, keys, group_, out);
                for (int64_t g = 0; g < group_; g++, out += kTile) {
                    const int64_t r = i * group_ + g;
                    max_score[r] = std::fmax(max_score[r], finish_scores(i, list_.tile[t], live, out));
                }
            }
        }
        return out - scores_;
    }

    // sums: [queries][group][kSumLanes + dim] fixed-point sums of p (in kSumLanes parts) and of p * v.
    // Returns how many scores it consumed.
    size_t accumulate(const float * max_score, double * sums) const {
        double * values = thread_scratch<double>(kValueSlot, kTile * dim);
        const float * in = scores_;
        for (int64_t t = begin_; t < end_; t++) {
            convert_values(list_.tile[t], values);
            for (int64_t i = 0; i < list_.queries; i++) {
                const uint32_t live = list_.live[t * list_.queries + i];
                if (!live) continue;
                for (int64_t g = 0; g < group_; g++, in += kTile) {
                    const int64_t r = i * group_ + g;
                    add_tile(in, max_score[r], live, values, sums + r * (kSumLanes + dim));
                }
            }
        }
        return in - scores_;
    }

    const float * query_row(int64_t r) const {
        const ggml::Tensor & q = *a_.q;
        return (const float *) ((const char *) q.data + (list_.first_query + r / group_) * q.nb[1] +
                                (kv_head_ * group_ + r % group_) * q.nb[2] + list_.stream * q.nb[3]);
    }

    float * output_row(int64_t r) const {
        const ggml::Tensor & o = *a_.dst;
        return (float *) ((char *) o.data + (kv_head_ * group_ + r % group_) * o.nb[1] +
                          (list_.first_query + r / group_) * o.nb[2] + list_.stream * o.nb[3]);
    }

private:
    const uint16_t * cell(const ggml::Tensor & kv, int64_t tile, int i) const {
        return (const uint16_t *) ((const char *) kv.data + (tile * kTile + i) * kv.nb[1] + kv_head_ * kv.nb[2] +
                                   list_.stream * kv.nb[3]);
    }

    // out: [dim][kTile] f32, the tile's keys with cells in lanes
    void convert_keys(int64_t tile, float * out) const {
        for (int c = 0; c < kTile; c += kLanes) {
            const uint8_t * keys = (const uint8_t *) cell(*a_.k, tile, c);
            for (int d = 0; d < dim; d += 8) {
                I32 pairs[4];  // dimensions d + 2i in the low, d + 2i + 1 in the high halves
                load_transposed(keys + 2 * d, a_.k->nb[1], pairs);
                #pragma GCC unroll 4
                for (int i = 0; i < 4; i++) {
                    store_f(out + (d + 2 * i) * kTile + c, half_to_f(pairs[i]));
                    store_f(out + (d + 2 * i + 1) * kTile + c, half_to_f(shift_right<16>(pairs[i])));
                }
            }
        }
    }

    void convert_values(int64_t tile, double * out) const {
        for (int i = 0; i < kTile; i++, out += dim) {
            const uint16_t * v = cell(*a_.v, tile, i);
            for (int d = 0; d < dim; d += kDoubles) store_d(out + d, load_halves_d(v + d));
        }
    }

    // Scores of rows consecutive query rows for the tile's cells; out: [rows][kTile]. A score is the sum of four
    // sums over every fourth dimension.
    template <int rows> static void score_tile(const float * query, const float * keys, float * out) {
        for (int c = 0; c < kTile; c += kLanes) {
            F32 sum[rows][4];
            #pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                #pragma GCC unroll 4
                for (int i = 0; i < 4; i++) sum[r][i] = zero_f();
            }
            for (int d = 0; d < dim; d += 4) {
                #pragma GCC unroll 4
                for (int i = 0; i < 4; i++) {
                    const F32 key = load_f(keys + (d + i) * kTile + c);
                    #pragma GCC unroll 4
                    for (int r = 0; r < rows; r++) sum[r][i] = fma(set_f(query[r * dim + d + i]), key, sum[r][i]);
                }
            }
            #pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                store_f(out + r * kTile + c, add(add(sum[r][0], sum[r][1]), add(sum[r][2], sum[r][3])));
            }
        }
    }

    static void score_rows(const float * query, const float * keys, int64_t rows, float * out) {
        for (; rows >= kRowsTogether; rows -= kRowsTogether) {
            score_tile<kRowsTogether>(query, keys, out);
            query += kRowsTogether * dim, out += kRowsTogether * kTile;
        }
        for (; rows > 0; rows--, query += dim, out += kTile) score_tile<1>(query, keys, out);
    }

    // Adds the mask; dead cells get -infinity. Returns the largest score.
    float finish_scores(int64_t query, int64_t tile, uint32_t live, float * scores) const {
        const F32 dead = set_f(-std::numeric_limits<float>::infinity());
        F32 largest = dead;
        for (int l = 0; l < kTile; l += kLanes) {
            F32 s = load_f(scores + l);
            if (a_.mask) {
                const uint16_t * m = mask_row(a_, list_.stream, list_.first_query + query) + tile * kTile + l;
                s = add(s, load_halves(m));
            }
            s = select(live, l, s, dead);
            store_f(scores + l, s);
            largest = max(largest, s);
        }
        return max_lane(largest);
    }

    static void add_tile(const float * scores, float max_score, uint32_t live, const double * values, double * sums) {
        float weights[kTile];
        for (int l = 0; l < kTile; l += kLanes) {
            store_f(weights + l, exp_nonpositive(sub(load_f(scores + l), set_f(max_score))));
        }
        double p[kTile];
        for (int l = 0; l < kTile; l += kDoubles) store_d(p + l, load_floats_d(weights + l));
        const RoundDown down;
        for (int l = 0; l < kTile; l += kDoubles) {
            double * sum = sums + l % kSumLanes;
            store_d(sum, add_down(load_d(sum), load_d(p + l), down));
        }
        sums += kSumLanes;
        constexpr int kHeld = 8;  // vectors of sums in registers
        for (int d = 0; d < dim; d += kHeld * kDoubles) {
            F64 sum[kHeld];
            #pragma GCC unroll 8
            for (int j = 0; j < kHeld; j++) sum[j] = load_d(sums + d + j * kDoubles);
            for (uint32_t bits = live; bits; bits &= bits - 1) {
                const int i = __builtin_ctz(bits);
                const F64 weight = set_d(p[i]);
                #pragma GCC unroll 8
                for (int j = 0; j < kHeld; j++) {
                    sum[j] = fma_down(weight, load_d(values + i * dim + d + j * kDoubles), sum[j], down);
                }
            }
            #pragma GCC unroll 8
            for (int j = 0; j < kHeld; j++) store_d(sums + d + j * kDoubles, sum[j]);
        }
    }

    const Attention & a_;
    const TileList & list_;
    const int64_t kv_head_, group_, begin_, end_;
    float * const scores_;
};

// How one operation is cut into work: items are (stream, block of queries, KV head), the head fastest. With few
// items every thread takes its share of the tiles of each item, and the parts are added up at the end.
struct Division {
    int64_t tokens, blocks, kv_heads, group, items;
    int splits;

    Division(const Attention & a, int nth)
        : tokens(a.q->ne[1]), blocks((tokens + kMaxQueries - 1) / kMaxQueries), kv_heads(a.k->ne[2]),
          group(a.q->ne[2] / kv_heads), items(a.q->ne[3] * blocks * kv_heads), splits(items < 4 * nth ? nth : 1) {}

    int64_t max_rows() const { return (tokens < kMaxQueries ? tokens : kMaxQueries) * group; }
    int64_t kv_head(int64_t item) const { return item % kv_heads; }

    const TileList & tiles(const Attention & a, uint64_t run, int64_t item) const {
        const int64_t first = item / kv_heads % blocks * kMaxQueries;
        const int64_t queries = tokens - first < kMaxQueries ? tokens - first : kMaxQueries;
        return tile_list(a, run, item / kv_heads / blocks, first, queries);
    }
};

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

template <int dim> void attend_whole(const Attention & a, const Division & div, const Worker & worker, uint64_t run) {
    constexpr int64_t row = kSumLanes + dim;
    const size_t rows = div.max_rows(), tiles = a.k->ne[1] / kTile;
    for (int64_t item = worker.ith; item < div.items; item += worker.nth) {
        const TileList & list = div.tiles(a, run, item);
        float * memory = thread_scratch<float>(kScoreSlot, rows * (tiles * kTile + 1 + 2 * row));
        double * sums = (double *) memory;  // [rows][row]
        float * max_score = memory + 2 * rows * row;
        const BlockRunner<dim> runner(a, list, div.kv_head(item), 0, list.count, max_score + rows);
        for (size_t r = 0; r < rows; r++) max_score[r] = -std::numeric_limits<float>::infinity();
        start_sums(sums, rows * row);
        runner.score(max_score);
        runner.accumulate(max_score, sums);
        for (int64_t r = 0; r < runner.rows(); r++) finish_row<dim>(sums + r * row, 1, 0, runner.output_row(r));
    }
}

template <int dim>
void attend_split(const Attention & a, const Division & div, const Worker & worker, uint64_t run, uint8_t * scratch) {
    constexpr int64_t row = kSumLanes + dim;
    const int64_t rows = div.max_rows(), splits = div.splits, split = worker.ith;
    const size_t tiles = a.k->ne[1] / kTile / splits + 1;
    double * all_sums = (double *) scratch;                                  // [items][splits][rows][row]
    float * all_max = (float *) (all_sums + div.items * splits * rows * row);  // [items][splits][rows]
    float * scores = thread_scratch<float>(kScoreSlot, (div.items * tiles * kTile + 1) * rows);
    float * max_score = scores + div.items * tiles * kTile * rows;  // [rows]

    const auto runner = [&](int64_t item, float * item_scores) {
        const TileList & list = div.tiles(a, run, item);
        return BlockRunner<dim>(a, list, div.kv_head(item), list.count * split / splits,
                                list.count * (split + 1) / splits, item_scores);
    };

    float * next = scores;
    for (int64_t item = 0; item < div.items; item++) {
        float * part = all_max + (item * splits + split) * rows;
        for (int64_t r = 0; r < rows; r++) part[r] = -std::numeric_limits<float>::infinity();
        next += runner(item, next).score(part);
    }
    worker.wait();
    next = scores;
    for (int64_t item = 0; item < div.items; item++) {
        const float * parts = all_max + item * splits * rows;
        for (int64_t r = 0; r < rows; r++) {
            max_score[r] = parts[r];
            for (int64_t s = 1; s < splits; s++) max_score[r] = std::fmax(max_score[r], parts[s * rows + r]);
        }
        double * sums = all_sums + (item * splits + split) * rows * row;
        start_sums(sums, rows * row);
        next += runner(item, next).accumulate(max_score, sums);
    }
    worker.wait();
    for (int64_t i = worker.begin(div.items * rows); i < worker.end(div.items * rows); i++) {
        const int64_t item = i / rows, r = i % rows;
        const BlockRunner<dim> out = runner(item, nullptr);
        if (r >= out.rows()) continue;
        finish_row<dim>(all_sums + (item * splits * rows + r) * row, splits, rows * row, out.output_row(r));
    }
}

inline size_t attention_scratch(const Attention & a, int nth) {
    const Division div(a, nth);
    if (div.splits == 1) return 0;
    return div.items * div.splits * div.max_rows() * ((kSumLanes + a.q->ne[0]) * sizeof(double) + sizeof(float));
}

template <int dim>
void attend(const Attention & a, const Worker & worker, uint64_t run, uint8_t * scratch) {
    const Division div(a, worker.nth);
    if (div.splits == 1) {
        attend_whole<dim>(a, div, worker, run);
    } else {
        attend_split<dim>(a, div, worker, run, scratch);
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
