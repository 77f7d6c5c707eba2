// Attention of one block of queries to a range of the cells that it sees (cells.h), a tile at a time.
//
// Three passes: score() finds each row's largest score, weigh() makes weights of the scores and sums them,
// accumulate() sums the weighted values. Scores and weights stay in one array between them, in the order of visit().
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention_tile.h"

namespace ISA_NAMESPACE {

// ALiBi's factor of a head (Press et al., 2022): powers of 2^(-max_bias / n) for the n heads of the largest power of
// two, of its root for the others in between.
inline float slope(const Attention & a, int64_t head) {
    if (a.max_bias == 0) return 1;
    const int64_t heads = a.q->ne[2];
    int64_t n = 1;
    while (2 * n <= heads) n *= 2;
    const double exponent = head < n ? head + 1 : (head - n) + 0.5;
    return float(std::exp2(-a.max_bias * exponent / n));
}

// The work on one block of queries, one KV head and a range of the block's tiles.
template <class Cache> class BlockRunner {
    using Cells = typename Cache::Cells;
    using Rows = CellRows<Cells, typename Cache::Size>;

public:
    // scores: room for tiles * queries * group tiles of scores
    BlockRunner(const Attention & a, const Cache & cache, const CellPlan & plan, const Block & block, int64_t kv_head,
                int64_t tile_begin, int64_t tile_end, float * scores)
        : a_(a), block_(block), biased_(plan.biased), kv_head_(kv_head), group_(a.q->ne[2] / a.k->ne[2]),
          begin_(tile_begin), end_(tile_end), keys_(*a.k, cache.keys, kv_head, block.stream),
          values_(*a.v, cache.values, kv_head, block.stream), scores_(scores) {}

    int64_t rows() const { return block_.queries * group_; }

    // max_score: [queries][group], out: of these tiles and the sinks. Leaves the scores in scores_ and returns how many
    // there are.
    size_t score(float * max_score) const {
        const auto size = keys_.size;
        const float scale = a_.soft_cap != 0 ? a_.scale / a_.soft_cap : a_.scale;
        float * query = thread_scratch<float>(kQuerySlot, rows() * size);
        float * slopes = thread_scratch<float>(kSlopesSlot, group_);
        for (int64_t i = 0; i < group_; i++) slopes[i] = slope(a_, head(i));
        for (int64_t r = 0; r < rows(); r++) {
            const float * q = query_row(r);
            float * out = query + r * size;
            int64_t d = 0;
            for (; d + kLanes <= keys_.dim(); d += kLanes) store_f(out + d, mul(load_f(q + d), set_f(scale)));
            for (; d < size; d++) out[d] = d < keys_.dim() ? q[d] * scale : 0;
            max_score[r] = sink(r);
        }
        float * keys = thread_scratch<float>(kKeysSlot, kTile * size);
        const auto start_tile = [&](int64_t tile) {
            convert_keys(tile, keys);
            for (int i = 0; i < kTile; i++) {  // the passes to come read values faster than memory gives them
                values_.prefetch(block_.cells[tile * kTile + i], prefetch_far);
            }
        };
        return visit<Together::kAll>(start_tile, [&](const Run & run) INLINE_LAMBDA {
            in_groups<kScoredTogether>((run.end - run.first) * group_, [&](auto n, int64_t first) INLINE_LAMBDA {
                score_tile<n>(query + (run.first * group_ + first) * size, keys, size, run.scores + first * kTile);
            });
            float * out = run.scores;
            for (int64_t i = run.first; i < run.end; i++) {
                for (int64_t r = i * group_; r < (i + 1) * group_; r++, out += kTile) {
                    if (a_.soft_cap != 0) cap_scores(a_.soft_cap, out);
                    if (biased_) add_mask(i, run.tile, slopes[r - i * group_], out);
                    max_score[r] = std::fmax(max_score[r], drop_dead_scores(block_.sees(i, run.tile), out));
                }
            }
        });
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
        float largest[kTile];
        const auto start_tile = [&](int64_t tile) {
            const uint8_t * values[kTile];
            find_cells(values_, kValuesSlot, tile, values);
            Cells::largest_magnitudes(values, values_.size, largest);
        };
        visit<Together::kAlike>(start_tile, [&](const Run & run) {
            const uint32_t live = block_.sees(run.first, run.tile);
            float * weights = run.scores;
            for (int64_t r = run.first * group_; r < run.end * group_; r++, weights += kTile) {
                mass[r].used += to_weights(max_score[r], weights);
                for (int c = 0; c < kTile; c += kLanes) {
                    const F32 bound = mul(load_f(weights + c), load_f(largest + c));
                    store_f(bounds + c, select(live, c, bound, zero_f()));
                }
                add_mass(weights, bounds, sums + r * 2 * kSumLanes);
            }
        });
        for (int64_t r = 0; r < rows(); r++) {
            mass[r].weight = mass[r].bound = 0;
            for (int l = 0; l < kSumLanes; l++) {
                mass[r].weight += sums[(2 * r) * kSumLanes + l] - kWeightStart;
                mass[r].bound += sums[(2 * r + 1) * kSumLanes + l] - kBoundStart;
            }
        }
    }

    // What the sums of a row start from. sums: [values' row size], out
    void start(const Mass & mass, float * sums) const {
        const FixedPoint fixed(mass);
        for (int64_t d = 0; d < values_.size; d++) sums[d] = fixed.start;
    }

    // sums: [queries][group][values' row size], the fixed-point sums of p * v, in and out.
    void accumulate(float * sums) const {
        const auto size = values_.size;
        const uint8_t * values[kTile];
        const auto start_tile = [&](int64_t tile) { find_cells(values_, kValuesSlot, tile, values); };
        visit<Together::kAlike>(start_tile, [&](const Run & run) {
            in_groups<kSummedTogether>((run.end - run.first) * group_, [&](auto n, int64_t first) INLINE_LAMBDA {
                add_tile<Cells, n>(run.scores + first * kTile, values, size,
                                   sums + (run.first * group_ + first) * size);
            });
        });
    }

    // Adds the parts of row r and writes its output. max_score, mass: of all tiles; parts: [splits][values' row size]
    void finish(int64_t r, float max_score, const Mass & mass, const float * parts, int64_t splits) const {
        const FixedPoint fixed(mass);
        const double lost = 0.5 * mass.used * fixed.quantum;  // by rounding down, on average
        const double weight = mass.weight + weight_of(sink(r), max_score);
        const double scale = !std::isfinite(mass.bound) || std::isnan(weight) ? std::numeric_limits<double>::quiet_NaN()
                             : weight > 0                                     ? 1 / weight
                                                                              : 0;
        float * out = output_row(r);
        for (int64_t first = 0; first < values_.size; first += kRowStep) {
            double sum[kRowStep];
            for (int64_t d = 0; d < kRowStep; d++) sum[d] = lost;
            for (int64_t s = 0; s < splits; s++) {
                const float * part = parts + s * values_.size + first;
                for (int64_t d = 0; d < kRowStep; d++) sum[d] += part[d] - fixed.start;
            }
            const int64_t n = std::min(kRowStep, values_.dim() - first);
            for (int64_t d = 0; d < n; d++) out[first + d] = float(sum[d] * scale);
        }
    }

private:
    int64_t head(int64_t r) const { return kv_head_ * group_ + r % group_; }

    float sink(int64_t r) const { return a_.sinks ? a_.sinks[head(r)] : -std::numeric_limits<float>::infinity(); }

    const float * query_row(int64_t r) const {
        const ggml::Tensor & q = *a_.q;
        return (const float *) ((const char *) q.data + (block_.first + r / group_) * q.nb[1] + head(r) * q.nb[2] +
                                block_.stream * q.nb[3]);
    }

    float * output_row(int64_t r) const {
        const ggml::Tensor & o = *a_.dst;
        return (float *) ((char *) o.data + head(r) * o.nb[1] + (block_.first + r / group_) * o.nb[2] +
                          block_.stream * o.nb[3]);
    }

    // Queries [first, end), which all see the tile. scores: [queries][group][kTile]
    struct Run {
        int64_t tile, first, end;
        float * scores;
    };

    // Which neighbours among the queries that see a tile make a run: all, or those that see the same cells of it.
    enum class Together { kAll, kAlike };

    // Calls start_tile(tile) for each tile and then work(run) for its runs, in the one order of scores_. Returns how
    // many scores that were.
    template <Together together, class StartTile, class Work>
    INLINE size_t visit(StartTile start_tile, Work work) const {
        float * scores = scores_;
        for (int64_t tile = begin_; tile < end_; tile++) {
            start_tile(tile);
            for (int64_t first = 0, end; first < block_.queries; first = end) {
                const uint32_t live = block_.sees(first, tile);
                end = first + 1;
                if (!live) continue;
                for (; end < block_.queries; end++) {
                    const uint32_t other = block_.sees(end, tile);
                    if (together == Together::kAlike ? other != live : !other) break;
                }
                work(Run{tile, first, end, scores});
                scores += (end - first) * group_ * kTile;
            }
        }
        return scores - scores_;
    }

    // Where a tile's cells lie, or their copies; asks for those of the next tile.
    void find_cells(const Rows & kv, Slot slot, int64_t tile, const uint8_t ** rows) const {
        const int32_t * cells = block_.cells + tile * kTile;
        const int32_t * next = tile + 1 < end_ ? cells + kTile : cells;
        for (int i = 0; i < kTile; i++) {
            rows[i] = kv.row(cells[i]);
            kv.prefetch(next[i], prefetch_near);
        }
        kv.fill_up(slot, rows);
    }

    // out: [keys' row size][kTile] f32, the tile's keys with cells in lanes
    void convert_keys(int64_t tile, float * out) const {
        const uint8_t * rows[kTile];
        find_cells(keys_, kKeyRowsSlot, tile, rows);
        for (int c = 0; c < kTile; c += kLanes) {
            for (int64_t d = 0; d < keys_.size; d += Cells::kBlock) {
                Cells::transpose(rows + c, d, out + d * kTile + c);
            }
        }
    }

    void add_mask(int64_t query, int64_t tile, float slope, float * scores) const {
        const uint16_t * mask = mask_row(a_, block_.stream, block_.first + query);
        uint16_t values[kTile];
        for (int c = 0; c < kTile; c++) values[c] = mask[block_.cells[tile * kTile + c]];
        for (int c = 0; c < kTile; c += kLanes) {
            store_f(scores + c, fma(set_f(slope), load_halves(values + c), load_f(scores + c)));
        }
    }

    const Attention & a_;
    const Block & block_;
    const bool biased_;
    const int64_t kv_head_, group_, begin_, end_;
    const Rows keys_, values_;
    float * const scores_;
};

}  // namespace ISA_NAMESPACE
