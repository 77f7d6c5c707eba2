// Products of several quantised matrices of one shape at once, each with columns of its own: batched weights, experts.
// A column is quantised and multiplied as if it were alone (matmul.h), so its company in a group does not matter.
#pragma once

#include "matmul.h"

namespace ISA_NAMESPACE {

using medusa::Group;
using medusa::Products;

inline size_t grouped_room(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Enough for the activations of columns however they fall into groups.
template <class T> size_t grouped_scratch(int64_t columns, int64_t groups, int64_t k) {
    // Tiles are padded by one column at most, and only the last of a group.
    const size_t records = (columns + groups) * (k / 32);
    return records * format_of<T>().column_bytes() + groups * 64;
}

// f(group, its activations), one group after the other.
template <class T, class F> void for_groups(const Products & p, uint8_t * scratch, F f) {
    for (const Group * group = p.groups; group < p.groups + p.n_groups; group++) {
        const Activations act = {format_of<T>(), group->end - group->begin, p.k / 32, scratch};
        f(*group, act);
        scratch += grouped_room(act.bytes());
    }
}

// Every thread takes its share of the rows of each group.
template <class T> void grouped_products(const Products & p, const Worker & worker, uint8_t * scratch) {
    const auto weights = [&](const Group & group) { return medusa::Weights{group.weights, p.row_bytes, p.rows}; };
    for_groups<T>(p, scratch, [&](const Group & group, const Activations & act) {
        const int64_t items = padded_columns(act) * act.blocks;
        quantize(act, p.src.from(group.begin), worker.begin(items), worker.end(items));
    });
    worker.wait();
    const int64_t panels = (p.rows + kPanel - 1) / kPanel;
    const Group * const last = p.groups + p.n_groups - 1;
    for_groups<T>(p, scratch, [&](const Group & group, const Activations & act) {
        const Share share(weights(group), worker), next(weights(&group < last ? (&group)[1] : group), worker);
        if (&group == p.groups) prefetch(share.begin, kPanel * p.row_bytes);
        PanelRunner<T> runner(weights(group), p.dst.from(group.begin), act, share, next);
        for (int64_t i = worker.begin(panels); i < worker.end(panels); i++) runner.run(i * kPanel);
    });
}

}  // namespace ISA_NAMESPACE
