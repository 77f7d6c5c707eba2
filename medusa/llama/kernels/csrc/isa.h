// The kernels of one instruction set; included once by each isa_*.cpp with ISA_NAMESPACE set.
// Everything below lives in that namespace, so that no code of one instruction set is linked into another.
#include "attention.h"
#include "float_products.h"
#include "grouped.h"
#include "packed.h"

namespace ISA_NAMESPACE {

template <class F> auto with_type(ggml::Type type, F && f) {
    switch (type) {
        case ggml::kQ4_0: return f(Q4_0());
        case ggml::kQ4_1: return f(Q4_1());
        case ggml::kQ5_0: return f(Q5_0());
        case ggml::kQ5_1: return f(Q5_1());
        case ggml::kQ8_0: return f(Q8_0());
        case ggml::kIQ4_NL: return f(IQ4_NL());
        case ggml::kMXFP4: return f(MXFP4());
        case ggml::kQ3_K: return f(Q3_K());
        case ggml::kQ4_K: return f(Q4_K());
        case ggml::kQ5_K: return f(Q5_K());
        case ggml::kIQ4_XS: return f(IQ4_XS());
        default: return f(Q6_K());
    }
}

inline bool supports(ggml::Type type) {
    switch (type) {
        case ggml::kQ4_0:
        case ggml::kQ4_1:
        case ggml::kQ5_0:
        case ggml::kQ5_1:
        case ggml::kQ8_0:
        case ggml::kIQ4_NL:
        case ggml::kMXFP4:
        case ggml::kQ3_K:
        case ggml::kQ4_K:
        case ggml::kQ5_K:
        case ggml::kIQ4_XS:
        case ggml::kQ6_K: return true;
        default: return false;
    }
}

template <class T> constexpr bool kPacks = T::kFields.any();

inline int rows_packed_together(ggml::Type type) {
    return supports(type) && with_type(type, [](auto t) { return kPacks<decltype(t)>; }) ? kPanel : 0;
}

inline void pack_any(ggml::Type type, const medusa::Weights & rows, int64_t begin, int64_t end, uint8_t * out) {
    with_type(type, [&](auto t) {
        if constexpr (kPacks<decltype(t)>) pack<decltype(t)>(rows, begin, end, out);
    });
}

inline size_t mat_mul_scratch(ggml::Type type, int64_t n, int64_t k) {
    return with_type(type, [&](auto t) {
        using T = decltype(t);
        constexpr Format widest = kPacks<T> ? packed_format<T>() : format_of<T>();
        return Activations{widest, n, k / 32, nullptr}.bytes();
    });
}

inline void mat_mul_any(const MatMul & mm, const Worker & worker, RunState & run, uint8_t * scratch) {
    with_type(mm.type, [&](auto t) {
        using T = decltype(t);
        if constexpr (kPacks<T>) {
            if (mm.weights.packed) return mat_mul_packed<T>(mm, worker, run, scratch);
        }
        mat_mul<T>(mm, worker, run, scratch);
    });
}

inline size_t quantised_scratch(const Products & p) {
    return with_type(p.type, [&](auto t) { return grouped_scratch<decltype(t)>(p.n_columns, p.n_groups, p.k); });
}

inline void quantised_products(const Products & p, const Worker & worker, uint8_t * scratch) {
    with_type(p.type, [&](auto t) { grouped_products<decltype(t)>(p, worker, scratch); });
}

constexpr medusa::Kernels make_kernels(const char * name) {
    return {name,     supports,          mat_mul_scratch,    mat_mul_any,    rows_packed_together,
            pack_any, quantised_scratch, quantised_products, float_products, attention_scratch,
            attention};
}

}  // namespace ISA_NAMESPACE
