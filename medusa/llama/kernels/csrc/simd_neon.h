// Vectors of 4 lanes on ARMv8.2 with dot products (Apple's M1 and later, ARM servers and laptops).
// See simd_avx512.h for what each function promises.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#define INLINE [[gnu::always_inline]] inline
#define INLINE_LAMBDA __attribute__((always_inline))

namespace ISA_NAMESPACE {

constexpr int kLanes = 4;
constexpr int kMaxTile = 16;  // 32 registers: 8 of weights, 16 of sums, the rest for work
constexpr bool kBiasSignedWeights = false;  // both operands of sdot are signed
constexpr int kDotColumns = 1;

constexpr bool kWidensBytes = false;

using I32 = int32x4_t;
using F32 = float32x4_t;

INLINE uint32x4_t as_bits(I32 v) { return vreinterpretq_u32_s32(v); }
INLINE I32 from_bits(uint32x4_t v) { return vreinterpretq_s32_u32(v); }
INLINE uint32x4_t as_bits_f(F32 v) { return vreinterpretq_u32_f32(v); }
INLINE F32 from_bits_f(uint32x4_t v) { return vreinterpretq_f32_u32(v); }

INLINE I32 load(const void * p) { return vreinterpretq_s32_u8(vld1q_u8((const uint8_t *) p)); }
INLINE void store(void * p, I32 v) { vst1q_u8((uint8_t *) p, vreinterpretq_u8_s32(v)); }
INLINE F32 load_f(const float * p) { return vld1q_f32(p); }
INLINE void store_f(float * p, F32 v) { vst1q_f32(p, v); }
INLINE F32 zero_f() { return vdupq_n_f32(0.0f); }
INLINE F32 set_f(float x) { return vdupq_n_f32(x); }
INLINE I32 set_i(int32_t x) { return vdupq_n_s32(x); }
INLINE F32 to_f(I32 v) { return vcvtq_f32_s32(v); }
INLINE F32 sub(F32 a, F32 b) { return vsubq_f32(a, b); }
INLINE F32 mul(F32 a, F32 b) { return vmulq_f32(a, b); }
INLINE F32 fma(F32 a, F32 b, F32 c) { return vfmaq_f32(c, a, b); }
INLINE I32 bit_and(I32 a, I32 b) { return vandq_s32(a, b); }
INLINE I32 bit_or(I32 a, I32 b) { return vorrq_s32(a, b); }
INLINE I32 bit_xor(I32 a, I32 b) { return veorq_s32(a, b); }
template <int n> INLINE I32 shift_right(I32 v) {
    if constexpr (n == 0)
        return v;
    else
        return from_bits(vshrq_n_u32(as_bits(v), n));
}
template <int n> INLINE I32 shift_left(I32 v) { return vshlq_n_s32(v, n); }
template <int n> INLINE I32 shift_right_signed(I32 v) {
    if constexpr (n == 0)
        return v;
    else
        return vshrq_n_s32(v, n);
}

INLINE F32 half_to_f(I32 v) { return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(as_bits(v)))); }

INLINE void halves_to_f(I32 v, F32 & low, F32 & high) {
    low = half_to_f(v);
    high = vcvt_f32_f16(vreinterpret_f16_u16(vshrn_n_u32(as_bits(v), 16)));
}

INLINE float half_to_float(uint16_t half) {
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half))), 0);
}

INLINE I32 middle(I32 lo, I32 hi) { return vsliq_n_s32(shift_right<16>(lo), hi, 16); }

INLINE I32 table(int32_t a, int32_t b, int32_t c, int32_t d) {
    const int32_t dwords[4] = {a, b, c, d};
    return vld1q_s32(dwords);
}

INLINE I32 look_up(I32 table, I32 places) {
    return vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(table), vreinterpretq_u8_s32(places)));
}

template <int nibble> INLINE I32 spread_fifth_bit(I32 w, I32 bits) {
    constexpr int byte = nibble / 2, first = 4 * (nibble % 2);
    constexpr int b = byte * 0x01010101;
    const I32 picked = look_up(bits, table(b, b + 0x04040404, b + 0x08080808, b + 0x0C0C0C0C));
    const uint8x16_t select = vreinterpretq_u8_s32(set_i(int32_t(0x08040201u << first)));
    const uint8x16_t set = vtstq_u8(vreinterpretq_u8_s32(picked), select);
    return bit_or(w, bit_and(vreinterpretq_s32_u8(set), set_i(0x10101010)));
}

INLINE F32 power_of_two(I32 e) {
    const I32 half = shift_right<1>(e), other = vsubq_s32(e, half), bias = set_i(63);
    return mul(vreinterpretq_f32_s32(shift_left<23>(vaddq_s32(half, bias))),
               vreinterpretq_f32_s32(shift_left<23>(vaddq_s32(other, bias))));
}

template <class Row> INLINE void load_transposed(Row row, I32 * out) {
    const I32 a = load(row(0)), b = load(row(1)), c = load(row(2)), d = load(row(3));
    const int64x2_t ab_even = vreinterpretq_s64_s32(vtrn1q_s32(a, b)), ab_odd = vreinterpretq_s64_s32(vtrn2q_s32(a, b));
    const int64x2_t cd_even = vreinterpretq_s64_s32(vtrn1q_s32(c, d)), cd_odd = vreinterpretq_s64_s32(vtrn2q_s32(c, d));
    out[0] = vreinterpretq_s32_s64(vtrn1q_s64(ab_even, cd_even));
    out[1] = vreinterpretq_s32_s64(vtrn1q_s64(ab_odd, cd_odd));
    out[2] = vreinterpretq_s32_s64(vtrn2q_s64(ab_even, cd_even));
    out[3] = vreinterpretq_s32_s64(vtrn2q_s64(ab_odd, cd_odd));
}

INLINE I32 gather(const uint8_t * p, size_t stride) {
    int32_t v[kLanes];
    for (int r = 0; r < kLanes; r++) std::memcpy(&v[r], p + r * stride, 4);
    return load(v);
}

INLINE I32 broadcast_dword(const char * a) {
    int32_t x;
    std::memcpy(&x, a, 4);
    return set_i(x);
}

INLINE void prefetch_near(const void * p) { __builtin_prefetch(p, 0, 3); }
INLINE void prefetch_far(const void * p) { __builtin_prefetch(p, 0, 2); }

INLINE uint64_t gather_bits(uint64_t bits, uint64_t places) {
    uint64_t out = 0;
    for (int i = 0; places; i++, places &= places - 1) out |= (bits >> __builtin_ctzll(places) & 1) << i;
    return out;
}

INLINE I32 unknown(I32 v) {
    asm volatile("" : "+w"(v));
    return v;
}

template <int count, int max_weight, bool signed_weights, class Dword>
INLINE I32 dot(I32 init, const I32 * w, Dword a) {
    static_assert(signed_weights || max_weight < 128);
    #pragma GCC unroll 8
    for (int j = 0; j < count; j++) init = vdotq_s32(init, vreinterpretq_s8_s32(w[j]), vreinterpretq_s8_s32(a(j)));
    return init;
}

INLINE I32 load_bytes_wide(const void * p) { return vreinterpretq_s32_s16(vmovl_s8(vld1_s8((const int8_t *) p))); }
INLINE I32 dot_wide(I32 a, I32 b) {
    const int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
    return vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y));
}
INLINE I32 add_i(I32 a, I32 b) { return vaddq_s32(a, b); }

// ---- products of floats ----

constexpr int kFloatRows = 2, kFloatColumns = 2;  // of a tile: 16 registers of sums

INLINE F32 load_halves(const uint16_t * p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
INLINE F32 load_bf16(const uint16_t * p) { return from_bits_f(vshll_n_u16(vld1_u16(p), 16)); }

INLINE float sum_lanes(const F32 * sum) {
    const F32 s = vaddq_f32(vaddq_f32(sum[0], sum[2]), vaddq_f32(sum[1], sum[3]));
    const float32x2_t pairs = vadd_f32(vget_low_f32(s), vget_high_f32(s));
    return vget_lane_f32(pairs, 0) + vget_lane_f32(pairs, 1);
}

// ---- attention: 16 cells a tile ----

constexpr int kDoubles = 2;
using F64 = float64x2_t;

INLINE F32 add(F32 a, F32 b) { return vaddq_f32(a, b); }
INLINE F32 max(F32 a, F32 b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
INLINE float max_lane(F32 v) { return vmaxvq_f32(v); }
INLINE F64 load_d(const double * p) { return vld1q_f64(p); }
INLINE void store_d(double * p, F64 v) { vst1q_f64(p, v); }
INLINE F32 load_bytes(const void * p) {
    uint32_t four;
    std::memcpy(&four, p, 4);
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(four)));
    return to_f(vmovl_s16(vget_low_s16(wide)));
}
INLINE F64 load_floats_d(const float * p) { return vcvt_f64_f32(vld1_f32(p)); }

// Switches the rounding mode while it lives, as that of simd_avx2.h.
struct RoundDown {
    static constexpr uint64_t kMode = 3 << 22, kDown = 2 << 22;  // of the control register FPCR
    uint64_t saved;
    RoundDown() {
        asm volatile("mrs %0, fpcr" : "=r"(saved));
        asm volatile("msr fpcr, %0" : : "r"((saved & ~kMode) | kDown) : "memory");
    }
    ~RoundDown() { asm volatile("msr fpcr, %0" : : "r"(saved) : "memory"); }
};
INLINE F32 fma_down(F32 a, F32 b, F32 c, const RoundDown &) { return fma(a, b, c); }
INLINE F64 add_down(F64 a, F64 b, const RoundDown &) { return vaddq_f64(a, b); }

INLINE uint32x4_t lane_bits() {
    const uint32_t bit[4] = {1, 2, 4, 8};
    return vld1q_u32(bit);
}

INLINE uint32_t nonzero(F32 v) { return vaddvq_u32(vbicq_u32(lane_bits(), vceqzq_f32(v))); }

INLINE F32 select(uint32_t live, int first, F32 v, F32 other) {
    return vbslq_f32(vtstq_u32(vdupq_n_u32(live >> first), lane_bits()), v, other);
}

INLINE uint32_t cells_unlike(const uint16_t * mask, uint16_t value) {
    const uint16_t bit[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    const uint16x8_t wanted = vdupq_n_u16(value), place = vld1q_u16(bit);
    const uint32_t low = vaddvq_u16(vbicq_u16(place, vceqq_u16(vld1q_u16(mask), wanted)));
    const uint32_t high = vaddvq_u16(vbicq_u16(place, vceqq_u16(vld1q_u16(mask + 8), wanted)));
    return low | high << 8;
}

template <class Size> INLINE void largest_halves(const uint8_t * const * rows, Size size, float * out) {
    for (int i = 0; i < 16; i++) {
        uint16x8_t most = vdupq_n_u16(0);
        for (int64_t d = 0; d < size; d += 8) {
            const uint16x8_t v = vreinterpretq_u16_u8(vld1q_u8(rows[i] + 2 * d));
            most = vmaxq_u16(most, vbicq_u16(v, vdupq_n_u16(0x8000)));
        }
        out[i] = half_to_float(vmaxvq_u16(most));
    }
}

INLINE F32 round_f(F32 v) { return vrndnq_f32(v); }
INLINE I32 to_i(F32 v) { return vcvtnq_s32_f32(v); }
INLINE F32 scale_by_power(F32 v, I32 power) {
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(v), shift_left<23>(power)));
}
INLINE F32 div(F32 a, F32 b) { return vdivq_f32(a, b); }
INLINE F32 magnitude(F32 v) { return vabsq_f32(v); }
INLINE F32 with_sign(F32 v, F32 sign) {
    return from_bits_f(vorrq_u32(as_bits_f(v), vandq_u32(as_bits_f(sign), vdupq_n_u32(1u << 31))));
}
INLINE F32 where_below(F32 x, F32 limit, F32 v, F32 other) { return vbslq_f32(vcltq_f32(x, limit), v, other); }
INLINE F32 zero_below(F32 v, F32 x, F32 limit) { return from_bits_f(vbicq_u32(as_bits_f(v), vcltq_f32(x, limit))); }

INLINE float quantize_block(const float * x, int8_t * q, int * sums) {
    F32 v[8], most[4];
    for (int i = 0; i < 8; i++) v[i] = load_f(x + 4 * i);
    for (int i = 0; i < 4; i++) {  // pairs as wider vectors have them
        const int first = 4 * (i / 2) + i % 2;
        most[i] = max(magnitude(v[first]), magnitude(v[first + 2]));
    }
    const F32 m = max(max(most[0], most[2]), max(most[1], most[3]));
    const float32x2_t low = vget_low_f32(m), high = vget_high_f32(m);
    const float32x2_t pair = vbsl_f32(vcgt_f32(low, high), low, high);
    const float a = vget_lane_f32(pair, 0), b = vget_lane_f32(pair, 1), largest = a > b ? a : b;
    const F32 inverse = set_f(largest > 0 ? 127.0f / largest : 0.0f);
    I32 n[8];
    for (int i = 0; i < 8; i++) n[i] = to_i(mul(v[i], inverse));
    for (int h = 0; h < 2; h++) {
        const I32 * half = n + 4 * h;
        sums[h] = vaddvq_s32(vaddq_s32(vaddq_s32(half[0], half[1]), vaddq_s32(half[2], half[3])));
        const int16x8_t first = vcombine_s16(vqmovn_s32(half[0]), vqmovn_s32(half[1]));
        const int16x8_t second = vcombine_s16(vqmovn_s32(half[2]), vqmovn_s32(half[3]));
        vst1q_s8(q + 16 * h, vcombine_s8(vqmovn_s16(first), vqmovn_s16(second)));
    }
    return largest / 127.0f;
}

INLINE void widen_block(int8_t * q) {
    const int8x16_t low = vld1q_s8(q), high = vld1q_s8(q + 16);
    int16_t * out = (int16_t *) q;
    vst1q_s16(out, vmovl_s8(vget_low_s8(low)));
    vst1q_s16(out + 8, vmovl_high_s8(low));
    vst1q_s16(out + 16, vmovl_s8(vget_low_s8(high)));
    vst1q_s16(out + 24, vmovl_high_s8(high));
}

}  // namespace ISA_NAMESPACE
