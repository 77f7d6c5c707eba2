// How fast the integer units of one instruction set are; included once by each peak_*.cpp with ISA_NAMESPACE set.
#pragma once

#include "limits.h"

namespace ISA_NAMESPACE {

#if defined(__AVXVNNI__) || defined(__AVX512VNNI__) || defined(__aarch64__)
constexpr int kSums = 12;  // sums wait for themselves, five cycles where two instructions start in each
#else
constexpr int kSums = 4;  // these wait for one cycle
#endif

// The least that adds products of bytes to a sum; without VNNI that leaves out what widens sums of 16 bits, once for up
// to eight products.
INLINE I32 add_products(I32 sum, I32 weights, I32 activations) {
#if defined(__AVXVNNI__) || defined(__AVX512VNNI__) || defined(__aarch64__)
    return dot<1, 15, false>(sum, &weights, [&](int) INLINE_LAMBDA { return activations; });
#else
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights, activations));
#endif
}

// With all operands in registers: what the matrix kernels do, without their loads and floats.
inline int64_t multiply(int64_t rounds) {
    I32 weights = set_i(0x01020304), activations = set_i(0x04030201), sum[kSums];
    #pragma GCC unroll 16
    for (int i = 0; i < kSums; i++) sum[i] = set_i(i);
    for (int64_t r = 0; r < rounds; r++) {
        #pragma GCC unroll 16
        for (int i = 0; i < kSums; i++) {
            // New for all that the compiler knows: it merges no products, and keeps sums in registers.
            activations = unknown(activations);
            sum[i] = add_products(unknown(sum[i]), weights, activations);
        }
    }
    int32_t out[kLanes] = {};
    #pragma GCC unroll 16
    for (int i = 0; i < kSums; i++) store(out, bit_xor(load(out), sum[i]));
    asm volatile("" : : "r"(out) : "memory");
    return rounds * kSums * kLanes * 4;
}

}  // namespace ISA_NAMESPACE
