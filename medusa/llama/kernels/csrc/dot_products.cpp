#include "dot_products.h"

#include "shares.h"
#include "state.h"

namespace medusa {
namespace {

// Of a column in the type that dot products of p's weights want.
size_t column_bytes(const Products & p) {
    const ggml::Type type = binding.original.cpu_type_traits(p.type)->vec_dot_type;
    return (binding.original.row_size(type, p.k) + 63) / 64 * 64;
}

}  // namespace

size_t dot_scratch(const Products & p) { return p.n_columns * column_bytes(p); }

void dot_products(const Products & p, const Worker & worker, uint8_t * scratch) {
    const ggml::CpuTypeTraits & traits = *binding.original.cpu_type_traits(p.type);
    const auto from_float = binding.original.cpu_type_traits(traits.vec_dot_type)->from_float;
    const size_t stride = column_bytes(p);
    for (int64_t c = worker.begin(p.n_columns); c < worker.end(p.n_columns); c++) {
        from_float(p.src[c], scratch + c * stride, p.k);
    }
    worker.wait();
    for_shares(p, p.rows, worker, stride, [&](const Group & group, int64_t row, int64_t begin, int64_t end) {
        const uint8_t * w = group.weights + row * p.row_bytes;
        for (int64_t c = begin; c < end; c++) {
            traits.vec_dot(p.k, p.dst[c] + row, 0, w, 0, scratch + c * stride, 0, 1);
        }
    });
}

}  // namespace medusa
