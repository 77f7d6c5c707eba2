// How each ggml weight type unpacks into the one form that the matrix kernel reads.
//
// A weight row is cut into blocks of 32 elements. For kLanes rows a block unpacks to a PanelBlock:
//     w[j], lane r   = elements 4j..4j+3 of row r as four unsigned bytes
//     weight         = scale * (byte - kOffset)      for types without a minimum
//     weight         = scale * byte + min            for types with one
// unpack() hands each block to a sink: sink(block, w, scale, min), which stores it in a panel (StoreBlocks) or, for
// few columns, multiplies it right away from registers (matmul.h).
//
// A row is read as a stream of dwords, 16 bytes of every row at a time, transposed in registers. kUnit blocks
// are the least that end on 16 bytes; shorter remainders over-read by up to 15 bytes, which the caller permits
// or prevents (see matmul.h).
#pragma once

#include <type_traits>

#include "ggml_abi.h"

namespace ISA_NAMESPACE {

struct alignas(64) PanelBlock {
    uint8_t w[8][4 * kLanes];
    float scale[2][kLanes];  // per kGroups halves of the block; [1] unused if kGroups is 1
    float min[kLanes];       // unused without a minimum
};

template <int groups> struct StoreBlocks {
    PanelBlock * out;

    INLINE void operator()(int b, const I32 * w, const F32 * scale, F32 min) const {
        #pragma GCC unroll 8
        for (int j = 0; j < 8; j++) store(out[b].w[j], w[j]);
        #pragma GCC unroll 2
        for (int g = 0; g < groups; g++) store_f(out[b].scale[g], scale[g]);
        store_f(out[b].min, min);
    }
};

// kLanes rows of weights as a stream to read, while prefetching another stretch of weights at the same pace: spread
// over the work, prefetches never fill the core's miss buffers, which would stall the loads behind them. They stop at
// L2: a panel, its successor and the unpacked blocks together do not fit L1.
struct RowReader {
    const uint8_t * rows;
    size_t stride;
    const uint8_t * ahead;

    // Four dwords from byte offset of each row: out[i], lane r = dword i of row r.
    INLINE void read(int offset, I32 * out) {
        #pragma GCC unroll 4
        for (int i = 0; i < 16 * kLanes; i += 64) prefetch_far(ahead + i);
        ahead += 16 * kLanes;
        load_transposed([&](int lane) INLINE_LAMBDA { return rows + offset + lane * stride; }, out);
    }

    // The f16 that ends a block at a byte offset.
    INLINE F32 last_half(int offset) const { return half_to_f(shift_right<16>(gather(rows + offset - 2, stride))); }
};

// The sizes of a block's fields, in their order: halves, dwords, halves. All zero: the type is not packed.
struct Fields {
    int first_halves, dwords, last_halves;

    constexpr bool any() const { return first_halves + dwords > 0; }
};

// A block of kLanes rows, packed (packed.h): each field of all rows side by side, so that a field at byte o of a block
// lies at byte o * kLanes.
struct PackedBlock {
    const uint8_t * data;

    INLINE I32 dword(int byte) const { return load(data + byte * kLanes); }
    INLINE F32 half(int byte) const { return load_halves((const uint16_t *) (data + byte * kLanes)); }
    INLINE F32 last_half(int byte) const { return half(byte); }
    INLINE void read(int byte, I32 * out) const {
        #pragma GCC unroll 4
        for (int i = 0; i < 4; i++) out[i] = dword(byte + 4 * i);
    }
};

// A block of kLanes rows in a transposed stream of dwords; byte offsets in the stream are even.
struct StreamedBlock {
    const I32 * stream;
    int begin;  // of the block, in bytes of a row

    INLINE I32 dword(int byte) const {
        const I32 * v = stream + (begin + byte) / 4;
        return (begin + byte) % 4 == 0 ? v[0] : middle(v[0], v[1]);
    }
    INLINE F32 half(int byte) const {
        const I32 v = stream[(begin + byte) / 4];
        return half_to_f((begin + byte) % 4 == 0 ? v : shift_right<16>(v));
    }
};

INLINE I32 low_nibbles(I32 v) { return bit_and(v, set_i(0x0F0F0F0F)); }
INLINE I32 high_nibbles(I32 v) { return bit_and(shift_right<4>(v), set_i(0x0F0F0F0F)); }

// The pairs of signed bytes of a packed block, widened when asked for.
struct PackedBytes {
    PackedBlock block;
    int begin;

    INLINE I32 operator[](int pair) const { return load_bytes_wide(block.data + (begin + 2 * pair) * kLanes); }
};

// What the bits of a quant stand for: themselves.
template <int bits, bool has_min> struct PlainValues {
    static constexpr bool kSigned = bits == 8 && !kBiasSignedWeights;
    static constexpr int kOffset = has_min || kSigned ? 0 : 1 << (bits - 1);
    static constexpr int kMaxWeight = (1 << bits) - 1;
    static constexpr int kMostFused = kMaxTile;

    INLINE static I32 value(I32 quants) { return quants; }
};

// The one-level types: {d f16, [m f16], [fifth bits 4 B], quants}, 32 elements a block.
// Of 4 quant bits, byte i holds element i in the low and element i + 16 in the high nibble.
template <int bits, bool has_min, class Values = PlainValues<bits, has_min>> struct Simple {
    static constexpr bool kHasMin = has_min;
    static constexpr int kGroups = 1;
    static constexpr bool kSigned = Values::kSigned;
    static constexpr int kOffset = Values::kOffset;
    static constexpr int kMaxWeight = Values::kMaxWeight;
    static constexpr int kHead = has_min ? 4 : 2;  // bytes before the fifth bits
    static constexpr int kQuants = kHead + (bits == 5 ? 4 : 0);
    static constexpr int kBlockBytes = kQuants + (bits == 8 ? 32 : 16);
    static constexpr int kUnit = kBlockBytes % 16 == 0 ? 1 : kBlockBytes % 8 == 0 ? 2 : kBlockBytes % 4 == 0 ? 4 : 8;
    static constexpr int kBlocksPerSuper = 1;
    static constexpr int kMostFused = Values::kMostFused;
    static constexpr bool kWide = bits == 8 && kWidensBytes;  // packed: pairs of bytes, which widen to 16 bits
    static constexpr Fields kFields = {kWide ? kBlockBytes / 2 : kHead / 2, kWide ? 0 : (kBlockBytes - kHead) / 4, 0};

    template <int blocks, class Sink> INLINE static void unpack(RowReader & in, Sink & sink) {
        I32 v[4 * chunks_for(blocks, blocks) + 1];
        unpack_from<blocks, 0>(in, v, sink);
    }

    // How many 16-byte chunks the first b of blocks blocks touch.
    static constexpr int chunks_for(int b, int blocks) {
        const int all = (blocks * kBlockBytes + 15) / 16, some = b ? (b * kBlockBytes + 2 + 15) / 16 : 0;
        return some < all ? some : all;
    }

    template <int blocks, int b, class Sink> INLINE static void unpack_from(RowReader & in, I32 * v, Sink & sink) {
        constexpr int have = chunks_for(b, blocks), need = chunks_for(b + 1, blocks);
        #pragma GCC unroll 4
        for (int c = have; c < need; c++) in.read(16 * c, v + 4 * c);
        unpack_block(StreamedBlock{v, b * kBlockBytes}, b, sink);
        if constexpr (b + 1 < blocks) unpack_from<blocks, b + 1>(in, v, sink);
    }

    template <int blocks, class Sink> INLINE static void unpack(const PackedBlock & in, Sink & sink) {
        if constexpr (kWide) {
            const F32 scale = in.half(0);
            sink(0, PackedBytes{in, kQuants}, &scale, zero_f());
        } else {
            unpack_block(in, 0, sink);
        }
    }

    template <class Block, class Sink> INLINE static void unpack_block(const Block & in, int b, Sink & sink) {
        I32 w[8];
        if constexpr (bits == 8) {
            #pragma GCC unroll 8
            for (int j = 0; j < 8; j++) {
                const I32 q = in.dword(kQuants + 4 * j);
                w[j] = kSigned ? q : bit_xor(q, set_i(int32_t(0x80808080)));
            }
        } else {
            #pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                const I32 q = in.dword(kQuants + 4 * j);
                w[j] = Values::value(low_nibbles(q));
                w[j + 4] = Values::value(high_nibbles(q));
            }
            if constexpr (bits == 5) add_fifth_bits(w, in.dword(kHead));
        }
        const F32 scale = in.half(0);
        sink(b, w, &scale, has_min ? in.half(2) : zero_f());
    }

    INLINE static void add_fifth_bits(I32 * w, I32 b) {
        w[0] = spread_fifth_bit<0>(w[0], b), w[1] = spread_fifth_bit<1>(w[1], b);
        w[2] = spread_fifth_bit<2>(w[2], b), w[3] = spread_fifth_bit<3>(w[3], b);
        w[4] = spread_fifth_bit<4>(w[4], b), w[5] = spread_fifth_bit<5>(w[5], b);
        w[6] = spread_fifth_bit<6>(w[6], b), w[7] = spread_fifth_bit<7>(w[7], b);
    }
};

// Q4_K and Q5_K: super-blocks of 256 {d f16, dmin f16, 8 x (6-bit scale, 6-bit min) in 12 B, [fifth bits 32 B],
// quants 128 B}; weight = d * scale * q - dmin * min. 32 quant bytes hold two blocks: low nibbles, high nibbles.
// Bit i of fifth-bit byte l belongs to element l of block i.
template <int bits> struct SuperWithMin {
    static constexpr bool kHasMin = true;
    static constexpr int kGroups = 1;
    static constexpr bool kSigned = false;
    static constexpr int kOffset = 0;
    static constexpr int kMaxWeight = (1 << bits) - 1;
    static constexpr int kQuants = bits == 5 ? 48 : 16;
    static constexpr int kBlockBytes = kQuants + 128;  // of a super-block
    static constexpr int kUnit = 8;
    static constexpr int kBlocksPerSuper = 8;
    static constexpr int kMostFused = kMaxTile;
    static constexpr bool kWide = false;
    static constexpr Fields kFields = {0, kBlockBytes / 4, 0};

    template <int blocks, class Reader, class Sink> INLINE static void unpack(Reader & in, Sink & sink) {
        static_assert(blocks == 8);
        I32 head[4];
        in.read(0, head);
        const F32 d = half_to_f(head[0]), neg_dmin = mul(half_to_f(shift_right<16>(head[0])), set_f(-1.0f));
        const I32 six = set_i(0x3F3F3F3F), two = set_i(0x03030303);
        // Byte i of the first of two belongs to block i, of the second to block 4 + i.
        const I32 scale[2] = {bit_and(head[1], six),
                              bit_or(low_nibbles(head[3]), shift_left<4>(bit_and(shift_right<6>(head[1]), two)))};
        const I32 min[2] = {bit_and(head[2], six),
                            bit_or(high_nibbles(head[3]), shift_left<4>(bit_and(shift_right<6>(head[2]), two)))};

        I32 fifth[8];
        if constexpr (bits == 5) {
            in.read(16, fifth);
            in.read(32, fifth + 4);
        }
        unpack_pair<0>(in, fifth, d, neg_dmin, scale[0], min[0], sink);
        unpack_pair<1>(in, fifth, d, neg_dmin, scale[0], min[0], sink);
        unpack_pair<2>(in, fifth, d, neg_dmin, scale[1], min[1], sink);
        unpack_pair<3>(in, fifth, d, neg_dmin, scale[1], min[1], sink);
    }

    template <int pair, class Reader, class Sink>
    INLINE static void unpack_pair(Reader & in, const I32 * fifth, F32 d, F32 neg_dmin, I32 scale, I32 min,
                                   Sink & sink) {
        I32 q[8], w[8];
        in.read(kQuants + 32 * pair, q);
        in.read(kQuants + 32 * pair + 16, q + 4);
        constexpr int byte = 16 * (pair % 2);
        const I32 mask = set_i(0xFF), bit = set_i(0x01010101);
        #pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            w[j] = low_nibbles(q[j]);
            if constexpr (bits == 5) w[j] = bit_or(w[j], shift_left<4>(bit_and(shift_right<2 * pair>(fifth[j]), bit)));
        }
        const F32 low_scale = mul(d, to_f(bit_and(shift_right<byte>(scale), mask)));
        sink(2 * pair, w, &low_scale, mul(neg_dmin, to_f(bit_and(shift_right<byte>(min), mask))));
        #pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            w[j] = high_nibbles(q[j]);
            if constexpr (bits == 5) {
                w[j] = bit_or(w[j], shift_left<4>(bit_and(shift_right<2 * pair + 1>(fifth[j]), bit)));
            }
        }
        const F32 high_scale = mul(d, to_f(bit_and(shift_right<byte + 8>(scale), mask)));
        sink(2 * pair + 1, w, &high_scale, mul(neg_dmin, to_f(bit_and(shift_right<byte + 8>(min), mask))));
    }
};

// Q6_K: super-blocks of 256 {low 4 bits 128 B, high 2 bits 64 B, 16 int8 scales, d f16};
// weight = d * scale * (q - 32), a scale for every 16 elements. In each half of 128 elements, block i takes the
// low (i < 2) or high nibbles of bytes 32 * (i % 2).. and bits 2i, 2i + 1 of the 32 high-bit bytes.
struct Super6 {
    static constexpr bool kHasMin = false;
    static constexpr int kGroups = 2;
    static constexpr bool kSigned = false;
    static constexpr int kOffset = 32;
    static constexpr int kMaxWeight = 63;
    static constexpr int kBlockBytes = 210;
    static constexpr int kUnit = 8;
    static constexpr int kBlocksPerSuper = 8;
    static constexpr int kMostFused = 4;  // columns: four blocks share their bytes, which take most registers
    static constexpr bool kWide = false;
    static constexpr Fields kFields = {0, 52, 1};

    template <int blocks, class Reader, class Sink> INLINE static void unpack(Reader & in, Sink & sink) {
        static_assert(blocks == 8);
        I32 scales[4];
        in.read(192, scales);
        const F32 d = in.last_half(208);
        unpack_half<0>(in, d, scales, sink);
        unpack_half<1>(in, d, scales + 2, sink);
    }

    template <int half, class Reader, class Sink>
    INLINE static void unpack_half(Reader & in, F32 d, const I32 * scales, Sink & sink) {
        I32 a[8], b[8], high[8];
        in.read(128 + 32 * half, high);
        in.read(128 + 32 * half + 16, high + 4);
        in.read(64 * half, a);
        in.read(64 * half + 16, a + 4);
        in.read(64 * half + 32, b);
        in.read(64 * half + 48, b + 4);
        const auto block = [&](auto number, auto bits) INLINE_LAMBDA {
            constexpr int i = decltype(number)::value;
            const I32 pairs = scales[i / 2];  // two bytes a block
            const F32 scale[2] = {mul(d, to_f(shift_right_signed<24>(shift_left<(i % 2 ? 8 : 24)>(pairs)))),
                                  mul(d, to_f(shift_right_signed<24>(i % 2 ? pairs : shift_left<16>(pairs))))};
            I32 w[8];
            #pragma GCC unroll 8
            for (int j = 0; j < 8; j++) w[j] = bit_or(bits(j), bit_and(shifted<4 - 2 * i>(high[j]), set_i(0x30303030)));
            sink(4 * half + i, w, scale, zero_f());
        };
        block(std::integral_constant<int, 0>(), [&](int j) INLINE_LAMBDA { return low_nibbles(a[j]); });
        block(std::integral_constant<int, 1>(), [&](int j) INLINE_LAMBDA { return low_nibbles(b[j]); });
        block(std::integral_constant<int, 2>(), [&](int j) INLINE_LAMBDA { return high_nibbles(a[j]); });
        block(std::integral_constant<int, 3>(), [&](int j) INLINE_LAMBDA { return high_nibbles(b[j]); });
    }

    // To the left, or to the right if left is negative.
    template <int left> INLINE static I32 shifted(I32 v) {
        if constexpr (left > 0) return shift_left<left>(v);
        if constexpr (left < 0) return shift_right<-left>(v);
        return v;
    }
};

using Q4_0 = Simple<4, false>;
using Q4_1 = Simple<4, true>;
using Q5_0 = Simple<5, false>;
using Q5_1 = Simple<5, true>;
using Q8_0 = Simple<8, false>;
using Q4_K = SuperWithMin<4>;
using Q5_K = SuperWithMin<5>;
using Q6_K = Super6;

}  // namespace ISA_NAMESPACE
