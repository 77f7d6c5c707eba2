// Types whose quants are places in a table of values, and Q3_K; see quant_types.h for what they unpack to.
#pragma once

#include "quant_types.h"

namespace ISA_NAMESPACE {

constexpr int kFewFused = 4;  // columns; more kernels take a compiler minutes, and these types are not everybody's

constexpr int32_t four_bytes(int a, int b, int c, int d) {
    return int32_t(uint32_t(uint8_t(a)) | uint32_t(uint8_t(b)) << 8 | uint32_t(uint8_t(c)) << 16 |
                   uint32_t(uint8_t(d)) << 24);
}

// IQ4_NL and IQ4_XS: signed bytes as those of Q8_0.
struct Iq4Values {
    static constexpr bool kSigned = !kBiasSignedWeights;
    static constexpr int kOffset = kSigned ? 0 : 128;
    static constexpr int kMaxWeight = 255;
    static constexpr int kMostFused = kFewFused;

    INLINE static I32 value(I32 quants) {
        constexpr int o = kOffset;
        const I32 values =
            table(four_bytes(o - 127, o - 104, o - 83, o - 65), four_bytes(o - 49, o - 35, o - 22, o - 10),
                  four_bytes(o + 1, o + 13, o + 25, o + 38), four_bytes(o + 53, o + 69, o + 89, o + 113));
        return look_up(values, quants);
    }
};

// IQ4_XS: super-blocks of 256 {d f16, 8 x (2 high bits of a scale) 2 B, 8 x (4 low bits) 4 B, quants 128 B};
// weight = d * (scale - 32) * value. The 16 quant bytes of a block are those of Q4_0.
struct SuperTable {
    static constexpr bool kHasMin = false;
    static constexpr int kGroups = 1;
    static constexpr bool kSigned = Iq4Values::kSigned;
    static constexpr int kOffset = Iq4Values::kOffset;
    static constexpr int kMaxWeight = Iq4Values::kMaxWeight;
    static constexpr int kBlockBytes = 136;
    static constexpr int kUnit = 8;
    static constexpr int kBlocksPerSuper = 8;
    static constexpr int kMostFused = kFewFused;
    static constexpr bool kWide = false;
    static constexpr Fields kFields = {0, kBlockBytes / 4, 0};

    template <int blocks, class Reader, class Sink> INLINE static void unpack(Reader & in, Sink & sink) {
        static_assert(blocks == 8);
        I32 head[4];
        in.read(0, head);
        const F32 d = half_to_f(head[0]);
        const auto block = [&](auto number) INLINE_LAMBDA {
            constexpr int i = decltype(number)::value;
            I32 q[4], w[8];
            in.read(8 + 16 * i, q);
            #pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                w[j] = Iq4Values::value(low_nibbles(q[j]));
                w[j + 4] = Iq4Values::value(high_nibbles(q[j]));
            }
            const I32 low = bit_and(shift_right<4 * i>(head[1]), set_i(15));
            const I32 high = shift_left<4>(bit_and(shift_right<16 + 2 * i>(head[0]), set_i(3)));
            const F32 scale = mul(d, sub(to_f(bit_or(low, high)), set_f(32.0f)));
            sink(i, w, &scale, zero_f());
        };
        block(std::integral_constant<int, 0>());
        block(std::integral_constant<int, 1>());
        block(std::integral_constant<int, 2>());
        block(std::integral_constant<int, 3>());
        block(std::integral_constant<int, 4>());
        block(std::integral_constant<int, 5>());
        block(std::integral_constant<int, 6>());
        block(std::integral_constant<int, 7>());
    }
};

// MXFP4: blocks of 32 {exponent 1 B, quants as Q4_0's}; weight = 2^(exponent - 128) * value.
struct Mxfp4 {
    static constexpr bool kHasMin = false;
    static constexpr int kGroups = 1;
    static constexpr bool kSigned = false;
    static constexpr int kOffset = 12;
    static constexpr int kMaxWeight = 24;
    static constexpr int kBlockBytes = 17;
    static constexpr int kUnit = 4;  // blocks start at any byte, so nothing is gained by more
    static constexpr int kBlocksPerSuper = 1;
    static constexpr int kMostFused = kFewFused;
    static constexpr bool kWide = false;
    static constexpr Fields kFields = {};

    template <int blocks, class Sink> INLINE static void unpack(RowReader & in, Sink & sink) {
        constexpr int o = kOffset;
        const I32 values = table(four_bytes(o, o + 1, o + 2, o + 3), four_bytes(o + 4, o + 6, o + 8, o + 12),
                                 four_bytes(o, o - 1, o - 2, o - 3), four_bytes(o - 4, o - 6, o - 8, o - 12));
        #pragma GCC unroll 4
        for (int b = 0; b < blocks; b++) {
            I32 q[4], w[8];
            in.read(kBlockBytes * b + 1, q);
            #pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                w[j] = look_up(values, low_nibbles(q[j]));
                w[j + 4] = look_up(values, high_nibbles(q[j]));
            }
            const F32 scale = power_of_two(bit_and(gather(in.rows + kBlockBytes * b, in.stride), set_i(0xFF)));
            sink(b, w, &scale, zero_f());
        }
    }
};

// Q3_K: super-blocks of 256 {high bits 32 B, low 2 bits 64 B, 16 x (6-bit scale) 12 B, d f16};
// weight = d * (scale - 32) * (q - 4), a scale for every 16 elements. Bit i of high-bit byte l belongs to element l of
// block i; in each half of 128 elements, block i takes bits 2i, 2i + 1 of the 32 low-bit bytes.
struct Super3 {
    static constexpr bool kHasMin = false;
    static constexpr int kGroups = 2;
    static constexpr bool kSigned = false;
    static constexpr int kOffset = 4;
    static constexpr int kMaxWeight = 7;
    static constexpr int kBlockBytes = 110;
    static constexpr int kUnit = 8;
    static constexpr int kBlocksPerSuper = 8;
    static constexpr int kMostFused = kFewFused;
    static constexpr bool kWide = false;
    static constexpr Fields kFields = {};

    template <int blocks, class Sink> INLINE static void unpack(RowReader & in, Sink & sink) {
        static_assert(blocks == 8);
        I32 tail[4], high[8];
        in.read(94, tail);  // two bytes of quants, scales, d
        const F32 d = half_to_f(shift_right<16>(tail[3]));
        const I32 a = middle(tail[0], tail[1]), b = middle(tail[1], tail[2]), c = middle(tail[2], tail[3]);
        const I32 two = set_i(0x03030303);
        // Byte j of scale[i] is the scale of elements 16 * (4i + j)..
        const I32 scale[4] = {bit_or(low_nibbles(a), shift_left<4>(bit_and(c, two))),
                              bit_or(low_nibbles(b), shift_left<4>(bit_and(shift_right<2>(c), two))),
                              bit_or(high_nibbles(a), shift_left<4>(bit_and(shift_right<4>(c), two))),
                              bit_or(high_nibbles(b), shift_left<4>(bit_and(shift_right<6>(c), two)))};
        in.read(0, high);
        in.read(16, high + 4);
        unpack_half<0>(in, d, scale, high, sink);
        unpack_half<1>(in, d, scale + 2, high, sink);
    }

    template <int half, class Sink>
    INLINE static void unpack_half(RowReader & in, F32 d, const I32 * scales, const I32 * high, Sink & sink) {
        I32 low[8];
        in.read(32 + 32 * half, low);
        in.read(32 + 32 * half + 16, low + 4);
        const auto block = [&](auto number) INLINE_LAMBDA {
            constexpr int i = decltype(number)::value;
            I32 w[8];
            #pragma GCC unroll 8
            for (int j = 0; j < 8; j++) {
                const I32 bit = bit_and(shift_right<4 * half + i>(high[j]), set_i(0x01010101));
                w[j] = bit_or(bit_and(shift_right<2 * i>(low[j]), set_i(0x03030303)), shift_left<2>(bit));
            }
            constexpr int first = 16 * (i % 2);  // bit of its first scale
            const F32 scale[2] = {scale_at<first>(d, scales[i / 2]), scale_at<first + 8>(d, scales[i / 2])};
            sink(4 * half + i, w, scale, zero_f());
        };
        block(std::integral_constant<int, 0>());
        block(std::integral_constant<int, 1>());
        block(std::integral_constant<int, 2>());
        block(std::integral_constant<int, 3>());
    }

    template <int bit> INLINE static F32 scale_at(F32 d, I32 bytes) {
        return mul(d, sub(to_f(bit_and(shift_right<bit>(bytes), set_i(0xFF))), set_f(32.0f)));
    }
};

using IQ4_NL = Simple<4, false, Iq4Values>;
using IQ4_XS = SuperTable;
using MXFP4 = Mxfp4;
using Q3_K = Super3;

}  // namespace ISA_NAMESPACE
