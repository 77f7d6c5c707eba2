#include "match.h"

#include <cstring>

namespace medusa {
namespace {

bool rows_evenly_spaced(const ggml::Tensor & t) {
    return t.nb[0] == 4 && t.nb[1] % 4 == 0 && (t.ne[2] == 1 || t.nb[2] == t.ne[1] * t.nb[1]) &&
           (t.ne[3] == 1 || t.nb[3] == t.ne[2] * t.nb[2]);
}

}  // namespace

bool as_mat_mul(const Kernels & kernels, const ggml::Tensor & dst, MatMul & mm) {
    const ggml::Tensor &w = *dst.src[0], &x = *dst.src[1];
    const int hint = dst.op_params[1];
    if (hint || !kernels.supports(w.type) || x.type != ggml::kF32 || dst.type != ggml::kF32) return false;
    if (w.ne[2] != 1 || w.ne[3] != 1 || w.ne[0] % 64 != 0 || w.ne[1] < 16) return false;
    if (!rows_evenly_spaced(x) || !rows_evenly_spaced(dst)) return false;
    mm.type = w.type;
    mm.weights = {static_cast<const uint8_t *>(w.data), w.nb[1], w.ne[1]};
    mm.src = static_cast<const float *>(x.data);
    mm.src_stride = x.nb[1] / 4;
    mm.dst = static_cast<float *>(dst.data);
    mm.dst_stride = dst.nb[1] / 4;
    mm.k = w.ne[0];
    mm.n = x.ne[1] * x.ne[2] * x.ne[3];
    mm.source = &x;
    mm.next = mm.weights;
    mm.follows = false;
    return mm.n > 0;
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
