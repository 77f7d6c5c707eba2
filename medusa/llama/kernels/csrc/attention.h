// Attention over a KV cache: how its work is divided among the threads, and their parts put together.
#pragma once

#include "attention_block.h"

namespace ISA_NAMESPACE {

using medusa::RunState;
using medusa::Worker;

// How one operation is cut into work. Items are (block of queries, KV head), the head fastest. Every thread takes
// an equal share of all their queries, one after the other, so that few items are cut (each of the two then converts
// the keys). Where that would leave threads idle, every thread takes its share of the tiles of each item instead,
// and the parts are added up at the end.
constexpr int64_t kMaxSplitRows = 1024;  // query rows; more are enough work for any number of threads
constexpr int64_t kBarrierTiles = 8;     // what a split costs, in tiles of one query

struct Division {
    const CellPlan & plan;
    int64_t kv_heads, group, items;
    int64_t total = 0;  // work
    bool split = false;

    Division(const Attention & a, uint64_t run, int nth)
        : plan(cell_plan(a, run)), kv_heads(a.k->ne[2]), group(a.q->ne[2] / kv_heads), items(plan.count * kv_heads) {
        for (int64_t b = 0; b < plan.count; b++) total += work(plan.blocks[b]) * plan.blocks[b].queries * kv_heads;
        const bool few = plan.tokens * plan.streams * kv_heads * group <= kMaxSplitRows;
        split = nth > 1 && few && largest_share(nth) - total / nth > kBarrierTiles;
    }

    const Block & block(int64_t item) const { return plan.blocks[item / kv_heads]; }
    int64_t kv_head(int64_t item) const { return item % kv_heads; }
    int64_t rows(int64_t item) const { return block(item).queries * group; }

    // Of the item, among those of all items.
    int64_t first_row(int64_t item) const {
        const Block & b = block(item);
        return (b.stream * plan.tokens + b.first) * kv_heads * group + kv_head(item) * rows(item);
    }

    // Of one query and KV head, in tiles.
    static int64_t work(const Block & block) { return block.tiles ? block.tiles : 1; }

    int64_t share_end(int ith, int nth) const { return total * (ith + 1) / nth; }

    // How many of a block's queries have their middle before a point, with begin work before the block.
    static int64_t queries_before(const Block & block, int64_t begin, int64_t point) {
        const int64_t doubled = 2 * (point - begin) + work(block) - 1;
        return doubled < 0 ? 0 : std::min(doubled / (2 * work(block)), block.queries);
    }

private:
    int64_t largest_share(int nth) const {
        int64_t largest = 0, share = 0, begin = 0;
        int thread = 0;
        for (int64_t item = 0; item < items; item++) {
            const Block & b = block(item);
            for (int64_t query = 0; query < b.queries;) {
                const int64_t end = queries_before(b, begin, share_end(thread, nth));
                share += (end - query) * work(b);
                query = end;
                if (query < b.queries) thread++, largest = std::max(largest, share), share = 0;
            }
            begin += b.queries * work(b);
        }
        return std::max(largest, share);
    }
};

inline int64_t all_rows(const Attention & a) { return a.q->ne[1] * a.q->ne[2] * a.q->ne[3]; }

template <class Cache>
void attend_whole(const Attention & a, const Cache & cache, const Division & div, const Worker & worker) {
    const auto dim = cache.values;
    const int64_t share_begin = div.share_end(worker.ith - 1, worker.nth);
    const int64_t share_end = div.share_end(worker.ith, worker.nth);
    int64_t begin = 0;
    for (int64_t item = 0; item < div.items; item++) {
        const Block & whole = div.block(item);
        const int64_t first = div.queries_before(whole, begin, share_begin);
        const Block block = whole.part(first, div.queries_before(whole, begin, share_end));
        begin += div.work(whole) * whole.queries;
        if (block.queries == 0) continue;
        const int64_t rows = block.queries * div.group;
        float * max_score = thread_scratch<float>(kScoreSlot, rows * (block.tiles * kTile + 1 + dim));
        float * sums = max_score + rows;  // [rows][dim]
        Mass * mass = thread_scratch<Mass>(kMassSlot, rows);
        const BlockRunner<Cache> runner(a, cache, div.plan, block, div.kv_head(item), 0, block.tiles,
                                        sums + rows * dim);
        runner.score(max_score);
        runner.weigh(max_score, mass);
        for (int64_t r = 0; r < rows; r++) runner.start(mass[r], sums + r * dim);
        runner.accumulate(sums);
        for (int64_t r = 0; r < rows; r++) runner.finish(r, max_score[r], mass[r], sums + r * dim, 1);
    }
}

// What the threads of a split tell each other: of every row, the parts of each.
struct SplitRows {
    const int64_t splits, dim;
    Mass * const mass;        // [all rows][splits]
    float * const sums;       // [all rows][splits][dim]
    float * const max_score;  // [all rows][splits]

    SplitRows(uint8_t * scratch, int64_t rows, int64_t splits_, int64_t dim_)
        : splits(splits_), dim(dim_), mass((Mass *) scratch), sums((float *) (mass + rows * splits)),
          max_score(sums + rows * splits * dim) {}

    static size_t part_bytes(int64_t dim) { return sizeof(Mass) + (dim + 1) * sizeof(float); }

    float largest_score(int64_t row) const {
        float largest = max_score[row * splits];
        for (int64_t s = 1; s < splits; s++) largest = std::fmax(largest, max_score[row * splits + s]);
        return largest;
    }

    Mass whole_mass(int64_t row) const {
        Mass whole;
        for (int64_t s = 0; s < splits; s++) whole.add(mass[row * splits + s]);
        return whole;
    }
};

template <class Cache>
void attend_split(const Attention & a, const Cache & cache, const Division & div, const Worker & worker,
                  uint8_t * scratch) {
    const int64_t splits = worker.nth, split = worker.ith;
    const auto dim = cache.values;
    const SplitRows shared(scratch, all_rows(a), splits, dim);
    size_t n_scores = 0;
    for (int64_t item = 0; item < div.items; item++) {
        n_scores += div.rows(item) * (div.block(item).tiles / splits + 1) * kTile;
    }
    const int64_t most_rows = kMaxQueries * div.group;
    float * max_score = thread_scratch<float>(kScoreSlot, n_scores + most_rows * (1 + dim));
    float * sums = max_score + most_rows;  // [rows][dim]
    Mass * mass = thread_scratch<Mass>(kMassSlot, most_rows);
    float ** scores = thread_scratch<float *>(kItemsSlot, div.items + 1);  // where those of each item start
    scores[0] = sums + most_rows * dim;

    const auto runner = [&](int64_t item) {
        const Block & block = div.block(item);
        return BlockRunner<Cache>(a, cache, div.plan, block, div.kv_head(item), block.tiles * split / splits,
                                  block.tiles * (split + 1) / splits, scores[item]);
    };

    for (int64_t item = 0; item < div.items; item++) {
        scores[item + 1] = scores[item] + runner(item).score(max_score);
        for (int64_t r = 0; r < div.rows(item); r++) {
            shared.max_score[(div.first_row(item) + r) * splits + split] = max_score[r];
        }
    }
    worker.wait();
    for (int64_t item = 0; item < div.items; item++) {
        const int64_t rows = div.rows(item), first = div.first_row(item);
        for (int64_t r = 0; r < rows; r++) max_score[r] = shared.largest_score(first + r);
        runner(item).weigh(max_score, mass);
        for (int64_t r = 0; r < rows; r++) shared.mass[(first + r) * splits + split] = mass[r];
    }
    worker.wait();
    for (int64_t item = 0; item < div.items; item++) {
        const int64_t rows = div.rows(item), first = div.first_row(item);
        for (int64_t r = 0; r < rows; r++) runner(item).start(shared.whole_mass(first + r), sums + r * dim);
        runner(item).accumulate(sums);
        for (int64_t r = 0; r < rows; r++) {
            std::memcpy(shared.sums + ((first + r) * splits + split) * dim, sums + r * dim, dim * sizeof(float));
        }
    }
    worker.wait();
    for (int64_t item = 0; item < div.items; item++) {
        const int64_t rows = div.rows(item), first = div.first_row(item);
        for (int64_t r = worker.begin(rows); r < worker.end(rows); r++) {
            runner(item).finish(r, shared.largest_score(first + r), shared.whole_mass(first + r),
                                shared.sums + (first + r) * splits * dim, splits);
        }
    }
}

// What a split needs, whether or not there will be one.
inline size_t attention_scratch(const Attention & a, int nth) {
    const int64_t rows = all_rows(a);
    if (nth == 1 || rows > kMaxSplitRows) return 0;
    return rows * nth * SplitRows::part_bytes(row_size(a.v->ne[0]));
}

template <class Cache>
void attend(const Attention & a, const Cache & cache, const Worker & worker, uint64_t run, uint8_t * scratch) {
    const Division div(a, run, worker.nth);
    if (div.split) {
        attend_split(a, cache, div, worker, scratch);
    } else {
        attend_whole(a, cache, div, worker);
    }
}

// Calls f with the format of an operation's cache.
template <class F> void with_format(const Attention & a, F && f) {
    const int64_t keys = a.k->ne[0], values = a.v->ne[0];
    if (a.k->type == ggml::kQ8_0) return f(CacheFormat<Q8_0Cells, int64_t>{keys, values});
    if (keys == 64 && values == 64) return f(CacheFormat<F16Cells, Fixed<64>>());
    if (keys == 128 && values == 128) return f(CacheFormat<F16Cells, Fixed<128>>());
    f(CacheFormat<F16Cells, int64_t>{row_size(keys), row_size(values)});
}

inline void attention(const Attention & a, const Worker & worker, const RunState & run, uint8_t * scratch) {
    with_format(a, [&](const auto & cache) { attend(a, cache, worker, run.id, scratch); });
}

}  // namespace ISA_NAMESPACE
