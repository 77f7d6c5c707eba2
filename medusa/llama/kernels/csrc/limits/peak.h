// How fast the integer units of one instruction set are; included once by each peak_*.cpp with ISA_NAMESPACE set.
#pragma once

#include "limits.h"

namespace ISA_NAMESPACE {

#if defined(__AVXVNNI__) || defined(__AVX512VNNI__) || defined(__aarch64__)
constexpr int kDwords = 1, kSums = 12;  // sums wait for themselves, five cycles where two instructions start in each
#else
constexpr int kDwords = 8, kSums = 2;  // as many products as can be added before they are widened
static_assert(pairs_per_widening(kDwords, 15, false) == kDwords);
#endif

// The integer products of a 4-bit type with all operands in registers: what the matrix kernels do, without their loads
// and floats.
inline int64_t multiply(int64_t rounds) {
    I32 weights[kDwords], activations = set_i(0x04030201), sum[kSums];
    for (int j = 0; j < kDwords; j++) weights[j] = set_i(0x01020304);
    for (int i = 0; i < kSums; i++) sum[i] = set_i(i);
    const auto next_activations = [&](int) INLINE_LAMBDA {
        return activations = unknown(activations);  // so that it merges no products
    };
    for (int64_t r = 0; r < rounds; r++) {
        #pragma GCC unroll 16
        for (int i = 0; i < kSums; i++) sum[i] = dot<kDwords, 15, false>(sum[i], weights, next_activations);
    }
    int32_t out[kLanes] = {};
    for (int i = 0; i < kSums; i++) store(out, bit_xor(load(out), sum[i]));
    asm volatile("" : : "r"(out) : "memory");
    return rounds * kSums * kDwords * kLanes * 4;
}

}  // namespace ISA_NAMESPACE
