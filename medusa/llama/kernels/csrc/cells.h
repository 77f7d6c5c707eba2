// Which cells of the KV cache the queries of a batch see, found once per mask and computation.
//
// In a unified cache the cells of many sequences interleave, and holes lie between them. Consecutive queries that
// see mostly the same cells form a block (a prompt's chunk, a candidate tree); the cells that a block sees are
// gathered into tiles, so that a query costs the cells it sees, whatever else the cache holds.
#pragma once

#include "kernels.h"
#include "scratch.h"

namespace ISA_NAMESPACE {

using medusa::Attention;

constexpr int kTile = 16;       // cells
constexpr int kMaxQueries = 8;  // of a block

// The cells of a tile, a bit each, in memory where others count them in words of 64.
using TileBits = uint16_t __attribute__((may_alias));

inline const uint16_t * mask_row(const Attention & a, int64_t stream, int64_t query) {
    return (const uint16_t *) ((const char *) a.mask->data + query * a.mask->nb[1] +
                               (stream % a.mask->ne[3]) * a.mask->nb[3]);
}

struct Block {
    int64_t stream, first, queries;
    int64_t tiles;
    const int32_t * cells;  // [tiles][kTile] ascending; the last tile is filled up with cells that it has already
    const TileBits * live;  // [queries][live_stride]
    int64_t live_stride;

    // Bit c: the query sees cell c of the tile.
    uint32_t sees(int64_t query, int64_t tile) const { return live[query * live_stride + tile]; }

    // Queries [begin, end) of it.
    Block part(int64_t begin, int64_t end) const {
        return {stream, first + begin, end - begin, tiles, cells, live + begin * live_stride, live_stride};
    }
};

struct CellPlan {
    uint64_t run;
    const void * mask;
    int64_t tokens, cells, streams;
    bool biased;  // the mask holds more than 0 and -infinity
    int64_t count;
    const Block * blocks;
};

// Bits in a row, appended in pieces of up to 64.
class BitWriter {
public:
    explicit BitWriter(uint64_t * out) : out_(out) {}

    void append(uint64_t bits, int count) {
        pending_ |= bits << filled_;
        if (filled_ + count < 64) {
            filled_ += count;
            return;
        }
        *out_++ = pending_;
        pending_ = filled_ ? bits >> (64 - filled_) : 0;
        filled_ += count - 64;
    }

    void finish() { *out_ = pending_; }

private:
    uint64_t * out_;
    uint64_t pending_ = 0;
    int filled_ = 0;
};

class CellPlanner {
public:
    explicit CellPlanner(const Attention & a)
        : a_(a), tokens_(a.q->ne[1]), streams_(a.q->ne[3]), words_((a.k->ne[1] + 63) / 64),
          bits_(thread_scratch<uint64_t>(kBitsSlot, tokens_ * streams_ * words_)),
          blocks_(thread_scratch<Block>(kBlockSlot, tokens_ * streams_)) {}

    CellPlan plan(uint64_t run) {
        for (int64_t row = 0; row < tokens_ * streams_; row++) find_cells(row);
        size_t cells = 0, live = 0;
        for (int64_t row = 0; row < tokens_ * streams_; row += blocks_[count_++].queries) {
            Block & block = blocks_[count_];
            block = begin_block(row);
            cells += block.tiles * kTile;
            live += block.queries * block.live_stride;
        }
        int32_t * next_cell = thread_scratch<int32_t>(kCellsSlot, cells);
        uint64_t * next_live = thread_scratch<uint64_t>(kLiveSlot, live / 4);
        for (int64_t b = 0; b < count_; b++) fill(blocks_[b], next_cell, next_live);
        return {run, a_.mask, tokens_, a_.k->ne[1], streams_, biased_, count_, blocks_};
    }

private:
    uint64_t * bits(int64_t row) const { return bits_ + row * words_; }

    void find_cells(int64_t row) {
        const int64_t tiles = a_.k->ne[1] / kTile;
        TileBits * out = (TileBits *) bits(row);
        for (int64_t t = 0; t < tiles; t++) {
            if (!a_.mask) {
                out[t] = 0xFFFF;
                continue;
            }
            const uint16_t * mask = mask_row(a_, row / tokens_, row % tokens_) + t * kTile;
            out[t] = cells_unlike(mask, 0xFC00);
            biased_ |= (out[t] & cells_unlike(mask, 0)) != 0;
        }
        for (int64_t t = tiles; t < words_ * 4; t++) out[t] = 0;
    }

    int64_t count_bits(const uint64_t * a, const uint64_t * b) const {
        int64_t n = 0;
        for (int64_t w = 0; w < words_; w++) n += __builtin_popcountll(a[w] & b[w]);
        return n;
    }

    // The block that starts at a row; fill() adds its cells.
    Block begin_block(int64_t row) const {
        uint64_t * all = thread_scratch<uint64_t>(kUnionSlot, words_);
        std::memcpy(all, bits(row), words_ * 8);
        int64_t size = count_bits(all, all), queries = 1;
        for (; queries < kMaxQueries && row % tokens_ + queries < tokens_; queries++) {
            const uint64_t * own = bits(row + queries);
            const int64_t common = count_bits(all, own), more = count_bits(own, own) - common;
            if (common < more || common < size - common) break;
            for (int64_t w = 0; w < words_; w++) all[w] |= own[w];
            size += more;
        }
        const int64_t tiles = (size + kTile - 1) / kTile;
        return {row / tokens_, row % tokens_, queries, tiles, nullptr, nullptr, (size / 64 + 1) * 4};
    }

    void fill(Block & block, int32_t *& next_cell, uint64_t *& next_live) const {
        const int64_t row = block.stream * tokens_ + block.first;
        block.cells = next_cell;
        block.live = (const TileBits *) next_live;
        BitWriter writers[kMaxQueries] = {BitWriter(nullptr), BitWriter(nullptr), BitWriter(nullptr),
                                          BitWriter(nullptr), BitWriter(nullptr), BitWriter(nullptr),
                                          BitWriter(nullptr), BitWriter(nullptr)};
        for (int64_t i = 0; i < block.queries; i++) writers[i] = BitWriter(next_live + i * block.live_stride / 4);
        for (int64_t w = 0; w < words_; w++) {
            uint64_t all = 0;
            for (int64_t i = 0; i < block.queries; i++) all |= bits(row + i)[w];
            for (uint64_t rest = all; rest; rest &= rest - 1) *next_cell++ = int32_t(w * 64 + __builtin_ctzll(rest));
            for (int64_t i = 0; i < block.queries; i++) {
                writers[i].append(gather_bits(bits(row + i)[w], all), __builtin_popcountll(all));
            }
        }
        for (int64_t i = 0; i < block.queries; i++) writers[i].finish();
        while ((next_cell - block.cells) % kTile) *next_cell = next_cell[-1], next_cell++;
        next_live += block.queries * block.live_stride / 4;
    }

    const Attention & a_;
    const int64_t tokens_, streams_, words_;
    uint64_t * const bits_;  // [streams][tokens][words]: the cells that each query sees
    Block * const blocks_;
    int64_t count_ = 0;
    bool biased_ = false;
};

// The plan is kept for the layers to come, which have the same mask.
inline const CellPlan & cell_plan(const Attention & a, uint64_t run) {
    static thread_local CellPlan plan = {};
    if (plan.run != run || plan.mask != a.mask || plan.tokens != a.q->ne[1] || plan.cells != a.k->ne[1] ||
        plan.streams != a.q->ne[3]) {
        plan = CellPlanner(a).plan(run);
    }
    return plan;
}

}  // namespace ISA_NAMESPACE
