// What the hooks and the instruction-set specific kernels know of each other.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ggml_abi.h"

namespace medusa {

// One thread's view of a running operation.
struct Worker {
    int ith, nth;
    ggml::ThreadPool * pool;
    void (*barrier)(ggml::ThreadPool *);

    void wait() const {
        if (nth > 1) barrier(pool);
    }
    int64_t begin(int64_t items) const { return items * ith / nth; }
    int64_t end(int64_t items) const { return items * (ith + 1) / nth; }
};

// State of one graph computation; work_buffer.h says where it lies.
// It is written before the threads start and, in between, only by thread 0 right before a graph-wide barrier.
struct RunState {
    static constexpr uint64_t kMagic = 0x6d65647573612e6bull;
    uint64_t magic;          // kMagic while this computation may use our kernels
    uint64_t id;             // unique among all computations
    uint32_t enabled;        // bits of Enable, constant during the computation
    int32_t shared_format;   // what the shared scratch holds: activations in this format ...
    const void * shared_source;        // ... of this tensor
    struct Product * products;         // the matrix products that are ours, in the order of computation
    int64_t n_products;
};

struct Product {
    const ggml::Tensor * dst;
    const uint8_t * packed;  // copy of its weights, or null
};

enum Enable : uint32_t { kMatMul = 1, kAttention = 2, kBarrier = 4 };

struct Weights {
    const uint8_t * data;
    size_t row_bytes;
    int64_t rows;
    bool packed = false;  // data is a packed copy (packing.h)
};

// Rows of floats: row i is i * stride floats from data, or places[i] floats where there are places.
template <class T> struct Rows {
    T * data;
    int64_t stride;
    const int64_t * places = nullptr;

    T * operator[](int64_t i) const { return data + (places ? places[i] : i * stride); }
    Rows from(int64_t i) const { return places ? Rows{data, 0, places + i} : Rows{data + i * stride, stride}; }
};

// dst[n][m] = sum over k of weights[m][k] * src[n][k], of one matrix of a type that the kernels know
struct MatMul {
    ggml::Type type;
    Weights weights;
    Rows<const float> src;
    Rows<float> dst;
    int64_t n, k;
    const void * source;  // identity of src within one computation
    Weights next;         // of the product to come, worth prefetching; these weights again if there is none
    bool follows;         // whether an earlier product prefetched the start of this one
};

struct Group {
    const uint8_t * weights;
    int64_t begin, end;  // columns
};

enum class Method {
    kQuantised,  // as MatMul
    kFloats,  // float_products.h
    kDots,    // dot_products.h
};

// All other products: of several matrices of one shape, each with columns of its own (weights with a batch dimension,
// experts), or of any type. dst[c][m] = sum over k of weights of c's group [m][k] * src[c][k]
struct Products {
    Method method;
    ggml::Type type;
    int64_t rows, k;  // of each matrix
    size_t row_bytes;
    int64_t n_columns;  // of all groups together
    int64_t n_groups;   // at most, until they are known
    const Group * groups;
    Rows<const float> src;
    Rows<float> dst;
};

// dst[token][head] = softmax(cap(scale * q . k) + slope(head) * mask, sink(head)) v, per stream, where
// cap(x) = soft_cap * tanh(x / soft_cap) and a sink is one more score, of a cell whose value is 0.
struct Attention {
    const ggml::Tensor * q;     // f32 [key dim, tokens, heads, streams]
    const ggml::Tensor * k;     // f16 or q8_0 [key dim, cells, kv_heads, streams]
    const ggml::Tensor * v;     // of k's type [value dim, cells, kv_heads, streams]
    const ggml::Tensor * mask;  // f16 [cells, >= tokens, 1, streams or 1] or null
    ggml::Tensor * dst;         // f32 [value dim, heads, tokens, streams]
    float scale;
    float soft_cap;       // 0: none
    float max_bias;       // of ALiBi, what the heads' slopes follow from; 0: they are 1
    const float * sinks;  // [heads] or null
};

struct Kernels {
    const char * name;
    bool (*supports)(ggml::Type);
    size_t (*mat_mul_scratch)(ggml::Type, int64_t n, int64_t k);  // bytes, shared by the threads
    void (*mat_mul)(const MatMul &, const Worker &, RunState &, uint8_t * scratch);
    int (*rows_packed_together)(ggml::Type);  // 0: not packed
    // Packs the parts [begin, end) of so many rows into their places in out.
    void (*pack)(ggml::Type, const Weights &, int64_t begin, int64_t end, uint8_t * out);
    size_t (*quantised_scratch)(const Products &);  // bytes, shared by the threads, however columns fall into groups
    void (*quantised_products)(const Products &, const Worker &, uint8_t * scratch);
    void (*float_products)(const Products &, const Worker &);
    size_t (*attention_scratch)(const Attention &, int nth);
    void (*attention)(const Attention &, const Worker &, const RunState &, uint8_t * scratch);
};

// The best kernels for this processor, or those of the named instruction set (null or "": any) if it has that; else
// null.
const Kernels * choose_kernels(const char * isa);

}  // namespace medusa
