// Which columns meet which matrix of a batch or of experts.
#include <vector>

#include "match.h"
#include "state.h"

namespace medusa {
namespace {

struct Groups {
    std::vector<Group> groups;
    std::vector<int64_t> src, dst;  // places of columns, group by group

    void clear() {
        groups.clear();
        src.clear();
        dst.clear();
    }
};

const uint8_t * matrix(const ggml::Tensor & w, int64_t i2, int64_t i3) {
    return static_cast<const uint8_t *>(w.data) + i2 * w.nb[2] + i3 * w.nb[3];
}

// In floats.
int64_t place(const ggml::Tensor & t, int64_t i1, int64_t i2, int64_t i3) {
    return (i1 * t.nb[1] + i2 * t.nb[2] + i3 * t.nb[3]) / 4;
}

// Each matrix serves a range of the batch: all query heads of a key head, say.
void group_batch(const ggml::Tensor & dst, Groups & found) {
    const ggml::Tensor &w = *dst.src[0], &x = *dst.src[1];
    const int64_t shared2 = x.ne[2] / w.ne[2], shared3 = x.ne[3] / w.ne[3];
    for (int64_t w3 = 0; w3 < w.ne[3]; w3++) {
        for (int64_t w2 = 0; w2 < w.ne[2]; w2++) {
            const int64_t begin = found.src.size();
            for (int64_t i3 = w3 * shared3; i3 < (w3 + 1) * shared3; i3++) {
                for (int64_t i2 = w2 * shared2; i2 < (w2 + 1) * shared2; i2++) {
                    for (int64_t i1 = 0; i1 < x.ne[1]; i1++) {
                        found.src.push_back(place(x, i1, i2, i3));
                        found.dst.push_back(place(dst, i1, i2, i3));
                    }
                }
            }
            found.groups.push_back({matrix(w, w2, w3), begin, int64_t(found.src.size())});
        }
    }
}

// ids: [experts of a token, tokens]; x: [k, experts of a token or 1, tokens]; dst: [rows, experts of a token, tokens]
void group_experts(const ggml::Tensor & dst, Groups & found) {
    const ggml::Tensor &w = *dst.src[0], &x = *dst.src[1], &ids = *dst.src[2];
    const auto expert = [&](int64_t i, int64_t token) {
        return *reinterpret_cast<const int32_t *>(static_cast<const uint8_t *>(ids.data) + i * ids.nb[0] +
                                                  token * ids.nb[1]);
    };
    const auto each = [&](auto f) {
        for (int64_t token = 0; token < ids.ne[1]; token++) {
            for (int64_t i = 0; i < ids.ne[0]; i++) f(expert(i, token), i, token);
        }
    };
    static thread_local std::vector<int64_t> next;  // column of each expert
    next.assign(w.ne[2], 0);
    each([&](int32_t e, int64_t, int64_t) { next[e]++; });
    int64_t columns = 0;
    for (int64_t e = 0; e < w.ne[2]; e++) {
        const int64_t count = next[e];
        next[e] = columns;
        if (count) found.groups.push_back({matrix(w, e, 0), columns, columns + count});
        columns += count;
    }
    found.src.resize(columns);
    found.dst.resize(columns);
    each([&](int32_t e, int64_t i, int64_t token) {
        found.src[next[e]] = place(x, i % x.ne[1], token, 0);
        found.dst[next[e]++] = place(dst, i, token, 0);
    });
}

}  // namespace

void find_groups(const ggml::Tensor & dst, Products & p) {
    static thread_local Groups found;
    found.clear();
    dst.op == binding.op_mul_mat_id ? group_experts(dst, found) : group_batch(dst, found);
    p.groups = found.groups.data();
    p.n_groups = found.groups.size();
    p.src.places = found.src.data();
    p.dst.places = found.dst.data();
}

}  // namespace medusa
