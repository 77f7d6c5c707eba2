// What the vector layers of AVX2 and AVX-512 have in common, and what each function of it promises.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#define INLINE [[gnu::always_inline]] inline
#define INLINE_LAMBDA __attribute__((always_inline))

namespace ISA_NAMESPACE {

// Has a cache line fetched into L1, or only into L2.
INLINE void prefetch_near(const void * p) { _mm_prefetch((const char *) p, _MM_HINT_T0); }
INLINE void prefetch_far(const void * p) { _mm_prefetch((const char *) p, _MM_HINT_T1); }

INLINE float half_to_float(uint16_t half) { return _cvtsh_ss(half); }

// The bits at the places of set bits, moved together at the low end.
INLINE uint64_t gather_bits(uint64_t bits, uint64_t places) { return _pext_u64(bits, places); }

INLINE int horizontal_sum(__m256i v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1));
    return _mm_cvtsi128_si32(s);
}

// Quantises 32 values; sums[h] is the sum of half h of the result.
INLINE float quantize_block(const float * x, int8_t * q, int * sums) {
    const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
    __m256 v[4];
    for (int i = 0; i < 4; i++) v[i] = _mm256_loadu_ps(x + 8 * i);
    const __m256 a = _mm256_max_ps(_mm256_and_ps(v[0], no_sign), _mm256_and_ps(v[1], no_sign));
    const __m256 b = _mm256_max_ps(_mm256_and_ps(v[2], no_sign), _mm256_and_ps(v[3], no_sign));
    const __m256 ab = _mm256_max_ps(a, b);
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(ab), _mm256_extractf128_ps(ab, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_movehdup_ps(m));
    const float largest = _mm_cvtss_f32(m);
    const __m256 inverse = _mm256_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
    __m256i n[4];
    for (int i = 0; i < 4; i++) n[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
    sums[0] = horizontal_sum(_mm256_add_epi32(n[0], n[1]));
    sums[1] = horizontal_sum(_mm256_add_epi32(n[2], n[3]));
    // Both packs work within 128-bit halves; the permutation restores the order.
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(n[0], n[1]), _mm256_packs_epi32(n[2], n[3]));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256((__m256i *) q, _mm256_permutevar8x32_epi32(bytes, order));
    return largest / 127.0f;
}

// 32 int8 become 32 int16 in place.
INLINE void widen_block(int8_t * q) {
    const __m128i low = _mm_loadu_si128((const __m128i *) q), high = _mm_loadu_si128((const __m128i *) q + 1);
    _mm256_storeu_si256((__m256i *) q, _mm256_cvtepi8_epi16(low));
    _mm256_storeu_si256((__m256i *) q + 1, _mm256_cvtepi8_epi16(high));
}

// The largest |x| of each of 16 rows of size f16 values, a multiple of 16; not finite if an x is not.
template <class Size> INLINE void largest_halves(const uint8_t * const * rows, Size size, float * out) {
    const __m256i magnitude = _mm256_set1_epi16(0x7FFF);
    __m128i largest[16];  // 8 candidates each
    for (int i = 0; i < 16; i++) {
        __m256i most = _mm256_setzero_si256();
        for (int64_t d = 0; d < size; d += 16) {
            const __m256i v = _mm256_loadu_si256((const __m256i *) (rows[i] + 2 * d));
            most = _mm256_max_epu16(most, _mm256_and_si256(v, magnitude));
        }
        largest[i] = _mm_max_epu16(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    }
    for (int i = 0; i < 16; i += 8) {
        const __m128i * v = largest + i;
        __m128i pairs[4], fours[2];
        for (int j = 0; j < 4; j++) {
            pairs[j] =
                _mm_max_epu16(_mm_unpacklo_epi16(v[2 * j], v[2 * j + 1]), _mm_unpackhi_epi16(v[2 * j], v[2 * j + 1]));
        }
        for (int j = 0; j < 2; j++) {
            fours[j] = _mm_max_epu16(_mm_unpacklo_epi32(pairs[2 * j], pairs[2 * j + 1]),
                                     _mm_unpackhi_epi32(pairs[2 * j], pairs[2 * j + 1]));
        }
        const __m128i all =
            _mm_max_epu16(_mm_unpacklo_epi64(fours[0], fours[1]), _mm_unpackhi_epi64(fours[0], fours[1]));
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(all));
    }
}

}  // namespace ISA_NAMESPACE
