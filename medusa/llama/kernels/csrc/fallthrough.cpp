#include "fallthrough.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "state.h"

namespace medusa {
namespace {

constexpr size_t kMostKinds = 64;  // more than a model has

std::mutex mutex;
Fallthrough kinds[kMostKinds];
size_t n_kinds = 0;

const char * feature_of(const ggml::Tensor & attention) {
    float max_bias, softcap;
    std::memcpy(&max_bias, attention.op_params + 1, 4);
    std::memcpy(&softcap, attention.op_params + 2, 4);
    return max_bias != 0 ? "ALiBi" : attention.src[4] ? "sinks" : softcap != 0 ? "soft-capping" : "";
}

Fallthrough kind_of(const ggml::Tensor & dst) {
    const ggml::Tensor & a = *dst.src[0];
    if (dst.op == binding.op_flash_attn_ext) {
        return {Operation::kAttention, dst.src[1]->type, a.ne[0], 0, feature_of(dst)};
    }
    if (dst.op == binding.op_soft_max) return {Operation::kUnfusedAttention, ggml::kF32, 0, 0, ""};
    if (dst.op == binding.op_solve_tri) return {Operation::kChunkedState, ggml::kF32, 0, 0, ""};
    const bool experts = dst.op == binding.op_mul_mat_id;
    return {experts ? Operation::kExpertProduct : Operation::kProduct, a.type, a.ne[0], 0, ""};
}

bool same_kind(const Fallthrough & a, const Fallthrough & b) {
    return a.operation == b.operation && a.type == b.type && a.size == b.size && a.feature == b.feature;
}

}  // namespace

bool is_inexact_elsewhere(const ggml::Tensor & dst) {
    // The sum of a masked softmax runs over cells in their places; chunks of recurrent states are cut by the batch.
    return (dst.op == binding.op_soft_max && dst.src[1]) || dst.op == binding.op_solve_tri;
}

void record_fallthrough(const ggml::Tensor & dst) {
    const bool hadamard = dst.op == binding.op_mul_mat && dst.op_params[1] == 1;  // computed row by row
    if (hadamard) return;
    const Fallthrough kind = kind_of(dst);
    const std::lock_guard<std::mutex> lock(mutex);
    Fallthrough * const end = kinds + n_kinds;
    Fallthrough * found = std::find_if(kinds, end, [&](const Fallthrough & k) { return same_kind(k, kind); });
    if (found == end) {
        if (n_kinds == kMostKinds) return;
        *found = kind;
        n_kinds++;
    }
    found->count++;
}

size_t fallthrough(Fallthrough * out, size_t room) {
    const std::lock_guard<std::mutex> lock(mutex);
    const size_t count = std::min(room, n_kinds);
    std::copy_n(kinds, count, out);
    return count;
}

void reset_fallthrough() {
    const std::lock_guard<std::mutex> lock(mutex);
    n_kinds = 0;
}

}  // namespace medusa
