#include "match.h"

#include <cstring>

#include "state.h"

namespace medusa {
namespace {

constexpr int64_t kLeastRows = 16;  // of quantised products, so that all instruction sets compute the same ones

// Something cheaper than a product computes it.
bool has_hint(const ggml::Tensor & dst) { return dst.op == binding.op_mul_mat && dst.op_params[1] != 0; }

bool floats_in_rows(const ggml::Tensor & t) {
    return t.type == ggml::kF32 && t.nb[0] == 4 && t.nb[1] % 4 == 0 && t.nb[2] % 4 == 0 && t.nb[3] % 4 == 0;
}

bool rows_evenly_spaced(const ggml::Tensor & t) {
    return t.nb[0] == 4 && t.nb[1] % 4 == 0 && (t.ne[2] == 1 || t.nb[2] == t.ne[1] * t.nb[1]) &&
           (t.ne[3] == 1 || t.nb[3] == t.ne[2] * t.nb[2]);
}

bool find_method(const Kernels & kernels, const ggml::Tensor & w, Method & method) {
    if (w.type == ggml::kF32 || w.type == ggml::kF16 || w.type == ggml::kBF16) {
        method = Method::kFloats;
    } else if (kernels.supports(w.type) && w.ne[1] >= kLeastRows) {
        method = Method::kQuantised;
    } else {
        method = Method::kDots;
        return binding.original.cpu_type_traits(w.type)->vec_dot != nullptr;
    }
    return true;
}

}  // namespace

bool as_mat_mul(const Kernels & kernels, const ggml::Tensor & dst, MatMul & mm) {
    if (dst.op != binding.op_mul_mat) return false;
    const ggml::Tensor &w = *dst.src[0], &x = *dst.src[1];
    if (has_hint(dst) || !kernels.supports(w.type) || x.type != ggml::kF32 || dst.type != ggml::kF32) return false;
    if (w.ne[2] != 1 || w.ne[3] != 1 || w.ne[1] < kLeastRows) return false;
    if (!rows_evenly_spaced(x) || !rows_evenly_spaced(dst)) return false;
    mm.type = w.type;
    mm.weights = {static_cast<const uint8_t *>(w.data), w.nb[1], w.ne[1]};
    mm.src = {static_cast<const float *>(x.data), int64_t(x.nb[1] / 4)};
    mm.dst = {static_cast<float *>(dst.data), int64_t(dst.nb[1] / 4)};
    mm.k = w.ne[0];
    mm.n = x.ne[1] * x.ne[2] * x.ne[3];
    mm.source = &x;
    mm.next = mm.weights;
    mm.follows = false;
    return mm.n > 0;
}

bool as_products(const Kernels & kernels, const ggml::Tensor & dst, Products & p) {
    const ggml::Tensor &w = *dst.src[0], &x = *dst.src[1];
    if (has_hint(dst) || !floats_in_rows(x) || !floats_in_rows(dst)) return false;
    if (w.nb[0] != binding.original.type_size(w.type)) return false;
    p = {};
    if (!find_method(kernels, w, p.method)) return false;
    p.type = w.type;
    p.rows = w.ne[1];
    p.k = w.ne[0];
    p.row_bytes = w.nb[1];
    p.n_columns = dst.ne[1] * dst.ne[2] * dst.ne[3];
    p.n_groups = w.ne[2] * w.ne[3] < p.n_columns ? w.ne[2] * w.ne[3] : p.n_columns;
    p.src = {static_cast<const float *>(x.data), 0};
    p.dst = {static_cast<float *>(dst.data), 0};
    const bool experts = dst.op == binding.op_mul_mat_id && dst.src[2]->type == ggml::kI32;
    return p.n_columns > 0 && p.k > 0 && (experts || dst.op == binding.op_mul_mat);
}

bool as_attention(ggml::Tensor & dst, Attention & a) {
    const ggml::Tensor &q = *dst.src[0], &k = *dst.src[1], &v = *dst.src[2];
    const ggml::Tensor *mask = dst.src[3], *sinks = dst.src[4];
    float scale, max_bias, soft_cap;
    std::memcpy(&scale, dst.op_params, 4);
    std::memcpy(&max_bias, dst.op_params + 1, 4);
    std::memcpy(&soft_cap, dst.op_params + 2, 4);
    const size_t block_bytes = k.type == ggml::kF16 ? 2 : 34;
    if (q.type != ggml::kF32 || (k.type != ggml::kF16 && k.type != ggml::kQ8_0) || v.type != k.type) return false;
    if (q.nb[0] != 4 || k.nb[0] != block_bytes || v.nb[0] != block_bytes || dst.nb[0] != 4 || k.ne[1] % 16 != 0) {
        return false;
    }
    if (k.ne[2] != v.ne[2] || q.ne[2] % k.ne[2] != 0 || k.ne[3] != q.ne[3] || v.ne[3] != q.ne[3]) return false;
    if (mask && (mask->type != ggml::kF16 || mask->ne[0] != k.ne[1] || mask->ne[1] < q.ne[1] || mask->ne[2] != 1)) {
        return false;
    }
    if (sinks && (sinks->type != ggml::kF32 || sinks->nb[0] != 4 || sinks->ne[0] != q.ne[2])) return false;
    a = {&q, &k, &v, mask, &dst, scale, soft_cap, max_bias, sinks ? static_cast<const float *>(sinks->data) : nullptr};
    return true;
}

}  // namespace medusa
