// Vectors of 16 lanes on AVX-512 with VNNI (F, BW, DQ, VL, VNNI).
//
// The kernels put one weight row (or one attention dimension) in each lane, so every float operation happens
// per lane and in an order that the vector width does not change: both ISAs give the same bits.
#pragma once

#include "simd_x86.h"

namespace ISA_NAMESPACE {

constexpr int kLanes = 16;
constexpr int kMaxTile = 16;  // activation columns that share one pass over unpacked weights
constexpr bool kBiasSignedWeights = true;  // dpbusd wants weights unsigned: q + 128, corrected by -128 * sum
// Columns whose dot products grow in turns, so that one's next instruction needn't wait for its last.
constexpr int kDotColumns = 4;

constexpr bool kWidensBytes = false;

using I32 = __m512i;
using F32 = __m512;

INLINE I32 load(const void * p) { return _mm512_loadu_si512(p); }
INLINE void store(void * p, I32 v) { _mm512_storeu_si512(p, v); }
INLINE F32 load_f(const float * p) { return _mm512_loadu_ps(p); }
INLINE void store_f(float * p, F32 v) { _mm512_storeu_ps(p, v); }
INLINE F32 zero_f() { return _mm512_setzero_ps(); }
INLINE F32 set_f(float x) { return _mm512_set1_ps(x); }
INLINE I32 set_i(int32_t x) { return _mm512_set1_epi32(x); }
INLINE F32 to_f(I32 v) { return _mm512_cvtepi32_ps(v); }
INLINE F32 sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
INLINE F32 mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
INLINE F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
INLINE I32 bit_and(I32 a, I32 b) { return _mm512_and_si512(a, b); }
INLINE I32 bit_or(I32 a, I32 b) { return _mm512_or_si512(a, b); }
INLINE I32 bit_xor(I32 a, I32 b) { return _mm512_xor_si512(a, b); }
template <int n> INLINE I32 shift_right(I32 v) { return _mm512_srli_epi32(v, n); }
template <int n> INLINE I32 shift_left(I32 v) { return _mm512_slli_epi32(v, n); }
template <int n> INLINE I32 shift_right_signed(I32 v) { return _mm512_srai_epi32(v, n); }

// Low 16 bits of each lane as f16.
INLINE F32 half_to_f(I32 v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }

// Low and high 16 bits of each lane as f16.
INLINE void halves_to_f(I32 v, F32 & low, F32 & high) {
    const I32 order = _mm512_set_epi16(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1, 30, 28, 26, 24, 22,
                                       20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const I32 sorted = _mm512_permutexvar_epi16(order, v);
    low = _mm512_cvtph_ps(_mm512_castsi512_si256(sorted));
    high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(sorted, 1));
}

// Bytes 2..5 of the 8-byte sequence lo:hi in each lane.
INLINE I32 middle(I32 lo, I32 hi) {
    const I32 l = _mm512_ror_epi32(lo, 16), h = _mm512_ror_epi32(hi, 16);
    return _mm512_mask_blend_epi16(0xAAAAAAAA, l, h);
}

// Sets bit 4 of byte i where bit (4 * nibble + i) of the lane is set.
template <int nibble> INLINE I32 spread_fifth_bit(I32 w, I32 bits) {
    constexpr int byte = nibble / 2, first = 4 * (nibble % 2);
    constexpr int pick = byte * 0x01010101;
    const I32 shuffle = _mm512_add_epi8(set_i(pick), _mm512_set4_epi32(0x0C0C0C0C, 0x08080808, 0x04040404, 0));
    const I32 select = set_i(int32_t(0x08040201u << first));
    const __mmask64 set = _mm512_test_epi8_mask(_mm512_shuffle_epi8(bits, shuffle), select);
    return bit_or(w, _mm512_maskz_mov_epi8(set, set_i(0x10101010)));
}

// Four dwords in each 128 bits, and the bytes of such a table at places below 16.
INLINE I32 table(int32_t a, int32_t b, int32_t c, int32_t d) { return _mm512_set4_epi32(d, c, b, a); }
INLINE I32 look_up(I32 table, I32 places) { return _mm512_shuffle_epi8(table, places); }

// 2^(e - 128) for e from 0 to 255: subnormal at the lower end, so a product of two powers.
INLINE F32 power_of_two(I32 e) {
    const I32 half = _mm512_srli_epi32(e, 1), other = _mm512_sub_epi32(e, half), bias = set_i(63);
    return mul(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(half, bias), 23)),
               _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(other, bias), 23)));
}

// Four dwords from each of 16 rows, transposed: out[i], lane r = dword i of row r, which starts at row(r).
template <class Row> INLINE void load_transposed(Row row, I32 * out) {
    const auto rows = [&](int first) INLINE_LAMBDA {
        I32 v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *) row(first)));
        v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *) row(first + 4)), 1);
        v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *) row(first + 8)), 2);
        return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *) row(first + 12)), 3);
    };
    const I32 a = rows(0), b = rows(1), c = rows(2), d = rows(3);
    const I32 ab_lo = _mm512_unpacklo_epi32(a, b), ab_hi = _mm512_unpackhi_epi32(a, b);
    const I32 cd_lo = _mm512_unpacklo_epi32(c, d), cd_hi = _mm512_unpackhi_epi32(c, d);
    out[0] = _mm512_unpacklo_epi64(ab_lo, cd_lo);
    out[1] = _mm512_unpackhi_epi64(ab_lo, cd_lo);
    out[2] = _mm512_unpacklo_epi64(ab_hi, cd_hi);
    out[3] = _mm512_unpackhi_epi64(ab_hi, cd_hi);
}

// One dword from each of 16 rows.
INLINE I32 gather(const uint8_t * p, size_t stride) {
    alignas(64) int32_t v[kLanes];
    for (int r = 0; r < kLanes; r++) std::memcpy(&v[r], p + r * stride, 4);
    return load(v);
}

INLINE I32 broadcast_dword(const char * a) {
    int32_t x;
    std::memcpy(&x, a, 4);
    return set_i(x);
}

// v, but new for all that the compiler knows.
INLINE I32 unknown(I32 v) {
    asm volatile("" : "+v"(v));
    return v;
}

// init + sum over count dwords j of w[j] (4 bytes a lane, unsigned) . a(j) (4 bytes, signed, the same in all lanes).
// max_weight and signed_weights only matter to instruction sets with narrower intermediate sums.
template <int count, int max_weight, bool signed_weights, class Dword>
INLINE I32 dot(I32 init, const I32 * w, Dword a) {
    #pragma GCC unroll 8
    for (int j = 0; j < count; j++) init = _mm512_dpbusd_epi32(init, w[j], a(j));
    return init;
}

INLINE I32 load_bytes_wide(const void * p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *) p)); }
INLINE I32 dot_wide(I32 a, I32 b) { return _mm512_madd_epi16(a, b); }
INLINE I32 add_i(I32 a, I32 b) { return _mm512_add_epi32(a, b); }

// ---- products of floats ----

constexpr int kFloatRows = 4, kFloatColumns = 6;  // of a tile: 24 registers of sums

INLINE F32 load_halves(const uint16_t * p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) p)); }
INLINE F32 load_bf16(const uint16_t * p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) p)), 16));
}

// The sum of 16 lanes: each half added to the other, again and again.
INLINE float sum_lanes(const F32 * sum) {
    const __m256 v = _mm256_add_ps(_mm512_castps512_ps256(*sum), _mm512_extractf32x8_ps(*sum, 1));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// ---- attention: 16 cells a tile ----

constexpr int kDoubles = 8;
using F64 = __m512d;

INLINE F32 add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
INLINE F32 max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
INLINE float max_lane(F32 v) { return _mm512_reduce_max_ps(v); }
INLINE F64 load_d(const double * p) { return _mm512_loadu_pd(p); }
INLINE void store_d(double * p, F64 v) { _mm512_storeu_pd(p, v); }
INLINE F32 load_bytes(const void * p) {  // signed
    return to_f(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *) p)));
}
INLINE F64 load_floats_d(const float * p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }

// Rounding towards -infinity: a pure function of a * b when the sum stays in one binade (see attention_tile.h).
struct RoundDown {};
INLINE F32 fma_down(F32 a, F32 b, F32 c, const RoundDown &) {
    return _mm512_fmadd_round_ps(a, b, c, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
INLINE F64 add_down(F64 a, F64 b, const RoundDown &) {
    return _mm512_add_round_pd(a, b, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

// Bit i: lane i is not 0.
INLINE uint32_t nonzero(F32 v) { return _mm512_cmp_ps_mask(v, zero_f(), _CMP_NEQ_UQ); }

// v where bit (first + lane) of live is set, elsewhere other.
INLINE F32 select(uint32_t live, int first, F32 v, F32 other) {
    return _mm512_mask_blend_ps(__mmask16(live >> first), other, v);
}

// Bit i: mask[i] is not value.
INLINE uint32_t cells_unlike(const uint16_t * mask, uint16_t value) {
    return _mm256_cmpneq_epi16_mask(_mm256_loadu_si256((const __m256i *) mask), _mm256_set1_epi16(int16_t(value)));
}

INLINE F32 round_f(F32 v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE I32 to_i(F32 v) { return _mm512_cvtps_epi32(v); }
INLINE F32 scale_by_power(F32 v, I32 power) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v), _mm512_slli_epi32(power, 23)));
}
INLINE F32 div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
INLINE F32 magnitude(F32 v) { return _mm512_abs_ps(v); }
INLINE F32 with_sign(F32 v, F32 sign) {  // v >= 0
    return _mm512_or_ps(v, _mm512_and_ps(sign, set_f(-0.0f)));
}
INLINE F32 where_below(F32 x, F32 limit, F32 v, F32 other) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, limit, _CMP_LT_OQ), other, v);
}
// v, but 0 where x is below the limit. What is not a number is not below.
INLINE F32 zero_below(F32 v, F32 x, F32 limit) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), v);
}

}  // namespace ISA_NAMESPACE
