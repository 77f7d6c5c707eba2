// Vectors of 8 lanes on AVX2 (with FMA and F16C), and on AVX-VNNI where compiled for it.
// See simd_avx512.h for what each function promises.
#pragma once

#include "simd_x86.h"

namespace ISA_NAMESPACE {

constexpr int kLanes = 8;
constexpr int kMaxTile = 4;  // 16 registers: 8 of weights, 4 of sums, the rest for work
#ifdef __AVXVNNI__
constexpr bool kBiasSignedWeights = true;
#else
constexpr bool kBiasSignedWeights = false;  // maddubs would saturate at 255 * 127 * 2: |w| times sign(w) a instead
#endif

constexpr int kDotColumns = 1;
constexpr bool kWidensBytes = !kBiasSignedWeights;  // products of signed bytes by way of 16 bits

using I32 = __m256i;
using F32 = __m256;

INLINE I32 load(const void * p) { return _mm256_loadu_si256((const __m256i *) p); }
INLINE void store(void * p, I32 v) { _mm256_storeu_si256((__m256i *) p, v); }
INLINE F32 load_f(const float * p) { return _mm256_loadu_ps(p); }
INLINE void store_f(float * p, F32 v) { _mm256_storeu_ps(p, v); }
INLINE F32 zero_f() { return _mm256_setzero_ps(); }
INLINE F32 set_f(float x) { return _mm256_set1_ps(x); }
INLINE I32 set_i(int32_t x) { return _mm256_set1_epi32(x); }
INLINE F32 to_f(I32 v) { return _mm256_cvtepi32_ps(v); }
INLINE F32 sub(F32 a, F32 b) { return _mm256_sub_ps(a, b); }
INLINE F32 mul(F32 a, F32 b) { return _mm256_mul_ps(a, b); }
INLINE F32 fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
INLINE I32 bit_and(I32 a, I32 b) { return _mm256_and_si256(a, b); }
INLINE I32 bit_or(I32 a, I32 b) { return _mm256_or_si256(a, b); }
INLINE I32 bit_xor(I32 a, I32 b) { return _mm256_xor_si256(a, b); }
template <int n> INLINE I32 shift_right(I32 v) { return _mm256_srli_epi32(v, n); }
template <int n> INLINE I32 shift_left(I32 v) { return _mm256_slli_epi32(v, n); }
template <int n> INLINE I32 shift_right_signed(I32 v) { return _mm256_srai_epi32(v, n); }

INLINE F32 half_to_f(I32 v) {
    const I32 low = bit_and(v, set_i(0xFFFF));
    const __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    return _mm256_cvtph_ps(halves);
}

INLINE void halves_to_f(I32 v, F32 & low, F32 & high) {
    low = half_to_f(v);
    high = half_to_f(shift_right<16>(v));
}

INLINE I32 middle(I32 lo, I32 hi) {
    return _mm256_blend_epi16(_mm256_srli_epi32(lo, 16), _mm256_slli_epi32(hi, 16), 0xAA);
}

template <int nibble> INLINE I32 spread_fifth_bit(I32 w, I32 bits) {
    constexpr int byte = nibble / 2, first = 4 * (nibble % 2);
    constexpr int b = byte * 0x01010101;
    const I32 shuffle = _mm256_setr_epi32(b, b + 0x04040404, b + 0x08080808, b + 0x0C0C0C0C, b, b + 0x04040404,
                                          b + 0x08080808, b + 0x0C0C0C0C);
    const I32 select = set_i(int32_t(0x08040201u << first));
    const I32 picked = bit_and(_mm256_shuffle_epi8(bits, shuffle), select);
    return bit_or(w, bit_and(_mm256_cmpeq_epi8(picked, select), set_i(0x10101010)));
}

INLINE I32 table(int32_t a, int32_t b, int32_t c, int32_t d) { return _mm256_setr_epi32(a, b, c, d, a, b, c, d); }
INLINE I32 look_up(I32 table, I32 places) { return _mm256_shuffle_epi8(table, places); }

INLINE F32 power_of_two(I32 e) {
    const I32 half = _mm256_srli_epi32(e, 1), other = _mm256_sub_epi32(e, half), bias = set_i(63);
    return mul(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)),
               _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(other, bias), 23)));
}

template <class Row> INLINE void load_transposed(Row row, I32 * out) {
    const auto rows = [&](int first) INLINE_LAMBDA {
        const I32 v = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *) row(first)));
        return _mm256_inserti128_si256(v, _mm_loadu_si128((const __m128i *) row(first + 4)), 1);
    };
    const I32 a = rows(0), b = rows(1), c = rows(2), d = rows(3);
    const I32 ab_lo = _mm256_unpacklo_epi32(a, b), ab_hi = _mm256_unpackhi_epi32(a, b);
    const I32 cd_lo = _mm256_unpacklo_epi32(c, d), cd_hi = _mm256_unpackhi_epi32(c, d);
    out[0] = _mm256_unpacklo_epi64(ab_lo, cd_lo);
    out[1] = _mm256_unpackhi_epi64(ab_lo, cd_lo);
    out[2] = _mm256_unpacklo_epi64(ab_hi, cd_hi);
    out[3] = _mm256_unpackhi_epi64(ab_hi, cd_hi);
}

INLINE I32 gather(const uint8_t * p, size_t stride) {
    alignas(32) int32_t v[kLanes];
    for (int r = 0; r < kLanes; r++) std::memcpy(&v[r], p + r * stride, 4);
    return load(v);
}

INLINE I32 broadcast_dword(const char * a) {
    int32_t x;
    std::memcpy(&x, a, 4);
    return set_i(x);
}

INLINE I32 unknown(I32 v) {
    asm volatile("" : "+v"(v));
    return v;
}

// How many pairs of products fit an int16 lane without saturating, of count to be summed.
constexpr int pairs_per_widening(int count, int max_weight, bool signed_weights) {
    const int most = signed_weights ? 1 : 32767 / (2 * 127 * max_weight);
    return most >= count ? count : most >= 4 ? 4 : most;
}

template <int count, int max_weight, bool signed_weights, class Dword>
INLINE I32 dot(I32 init, const I32 * w, Dword a) {
#ifdef __AVXVNNI__
    #pragma GCC unroll 8
    for (int j = 0; j < count; j++) init = _mm256_dpbusd_avx_epi32(init, w[j], a(j));
    return init;
#else
    constexpr int fit = pairs_per_widening(count, max_weight, signed_weights);
    static_assert(count % fit == 0);
    const I32 ones = _mm256_set1_epi16(1);
    #pragma GCC unroll 8
    for (int j = 0; j < count; j += fit) {
        I32 pairs = _mm256_setzero_si256();
        #pragma GCC unroll 8
        for (int i = 0; i < fit; i++) {
            const I32 v = w[j + i], x = a(j + i);
            const I32 product = signed_weights ? _mm256_maddubs_epi16(_mm256_abs_epi8(v), _mm256_sign_epi8(x, v))
                                               : _mm256_maddubs_epi16(v, x);
            pairs = i == 0 ? product : _mm256_add_epi16(pairs, product);
        }
        init = _mm256_add_epi32(init, _mm256_madd_epi16(pairs, ones));
    }
    return init;
#endif
}

// Signed bytes as 16-bit integers, and sums of products of pairs of such.
INLINE I32 load_bytes_wide(const void * p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *) p)); }
INLINE I32 dot_wide(I32 a, I32 b) { return _mm256_madd_epi16(a, b); }
INLINE I32 add_i(I32 a, I32 b) { return _mm256_add_epi32(a, b); }

// ---- products of floats ----

constexpr int kFloatRows = 2, kFloatColumns = 2;  // of a tile: 8 registers of sums

INLINE F32 load_halves(const uint16_t * p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p)); }
INLINE F32 load_bf16(const uint16_t * p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *) p)), 16));
}

INLINE float sum_lanes(const F32 * sum) {
    const __m256 v = _mm256_add_ps(sum[0], sum[1]);
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// ---- attention: 16 cells a tile ----

constexpr int kDoubles = 4;
using F64 = __m256d;

INLINE F32 add(F32 a, F32 b) { return _mm256_add_ps(a, b); }
INLINE F32 max(F32 a, F32 b) { return _mm256_max_ps(a, b); }
INLINE float max_lane(F32 v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
INLINE F64 load_d(const double * p) { return _mm256_loadu_pd(p); }
INLINE void store_d(double * p, F64 v) { _mm256_storeu_pd(p, v); }
INLINE F32 load_bytes(const void * p) { return to_f(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *) p))); }
INLINE F64 load_floats_d(const float * p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }

// Switches the rounding mode while it lives. Operands must come from memory after its construction and results
// go to memory before its end: the compiler keeps those, not plain arithmetic, on their side of the fences.
struct RoundDown {
    unsigned saved = _mm_getcsr();
    RoundDown() {
        _mm_setcsr((saved & ~_MM_ROUND_MASK) | _MM_ROUND_DOWN);
        asm volatile("" ::: "memory");
    }
    ~RoundDown() {
        asm volatile("" ::: "memory");
        _mm_setcsr(saved);
    }
};
INLINE F32 fma_down(F32 a, F32 b, F32 c, const RoundDown &) { return _mm256_fmadd_ps(a, b, c); }
INLINE F64 add_down(F64 a, F64 b, const RoundDown &) { return _mm256_add_pd(a, b); }

INLINE uint32_t nonzero(F32 v) { return _mm256_movemask_ps(_mm256_cmp_ps(v, zero_f(), _CMP_NEQ_UQ)); }

INLINE F32 select(uint32_t live, int first, F32 v, F32 other) {
    const I32 bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const I32 on = _mm256_cmpeq_epi32(_mm256_and_si256(set_i(int32_t(live >> first)), bit), bit);
    return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(on));
}

INLINE uint32_t cells_unlike(const uint16_t * mask, uint16_t value) {
    const I32 alike = _mm256_cmpeq_epi16(load(mask), _mm256_set1_epi16(int16_t(value)));
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(alike), _mm256_extracti128_si256(alike, 1));
    return ~_mm_movemask_epi8(bytes) & 0xFFFF;
}

INLINE F32 round_f(F32 v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE I32 to_i(F32 v) { return _mm256_cvtps_epi32(v); }
INLINE F32 scale_by_power(F32 v, I32 power) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), _mm256_slli_epi32(power, 23)));
}
INLINE F32 div(F32 a, F32 b) { return _mm256_div_ps(a, b); }
INLINE F32 magnitude(F32 v) { return _mm256_andnot_ps(set_f(-0.0f), v); }
INLINE F32 with_sign(F32 v, F32 sign) { return _mm256_or_ps(v, _mm256_and_ps(sign, set_f(-0.0f))); }
INLINE F32 where_below(F32 x, F32 limit, F32 v, F32 other) {
    return _mm256_blendv_ps(other, v, _mm256_cmp_ps(x, limit, _CMP_LT_OQ));
}
INLINE F32 zero_below(F32 v, F32 x, F32 limit) { return _mm256_and_ps(v, _mm256_cmp_ps(x, limit, _CMP_NLT_UQ)); }

}  // namespace ISA_NAMESPACE
