// How threads share the rows of several matrices, and columns the cache.
#pragma once

#include "kernels.h"

namespace medusa {

// f(group, block, begin, end): a block of rows, of blocks in each matrix, with columns [begin, end) of its group. Each
// thread gets an equal share of all blocks; so many columns come together as stay in a core's own cache, while blocks
// of weights pass over them.
template <class F>
void for_shares(const Products & p, int64_t blocks, const Worker & worker, size_t column_bytes, F f) {
    constexpr size_t kCache = 256 << 10;
    const int64_t at_once = kCache / column_bytes < 12 ? 12 : kCache / column_bytes / 12 * 12;
    const int64_t begin = worker.begin(blocks * p.n_groups), end = worker.end(blocks * p.n_groups);
    for (int64_t g = begin / blocks; g * blocks < end; g++) {
        const Group & group = p.groups[g];
        const int64_t from = begin > g * blocks ? begin - g * blocks : 0;
        const int64_t to = end - g * blocks < blocks ? end - g * blocks : blocks;
        for (int64_t c = group.begin; c < group.end; c += at_once) {
            const int64_t c_end = group.end - c < at_once ? group.end : c + at_once;
            for (int64_t b = from; b < to; b++) f(group, b, c, c_end);
        }
    }
}

}  // namespace medusa
