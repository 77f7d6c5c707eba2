// The part of ggml's binary interface that the hooks touch, declared by us.
//
// The installed wheel ships no headers, so the structures are restated here for the llama-cpp-python
// versions named in medusa/llama/kernels/library.py. The asserts pin the layout we believe in; bind() and the
// self-test check at load time that the library in memory believes the same.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <cstdint>

namespace ggml {

enum Type : int32_t {
    kF32 = 0,
    kF16 = 1,
    kQ4_0 = 2,
    kQ4_1 = 3,
    kQ5_0 = 6,
    kQ5_1 = 7,
    kQ8_0 = 8,
    kQ3_K = 11,
    kQ4_K = 12,
    kQ5_K = 13,
    kQ6_K = 14,
    kIQ4_NL = 20,
    kIQ4_XS = 23,
    kI32 = 26,
    kBF16 = 30,
    kMXFP4 = 39,
};

// How libggml-cpu multiplies rows of a type; its dot products take columns in another type.
struct CpuTypeTraits {
    void (*from_float)(const float * values, void * row, int64_t count);
    void (*vec_dot)(int count, float * sum, size_t, const void * row, size_t, const void * column, size_t, int pairs);
    Type vec_dot_type;
    int64_t nrows;
};
static_assert(sizeof(CpuTypeTraits) == 32);

struct Tensor {
    Type type;
    void * buffer;
    int64_t ne[4];  // elements per dimension, fastest first
    size_t nb[4];   // strides in bytes
    int32_t op;     // numbers differ between versions: looked up by name in interface.cpp
    int32_t op_params[16];
    int32_t flags;
    Tensor * src[10];
    Tensor * view_src;
    size_t view_offs;
    void * data;
    char name[64];
    void * extra;
    char padding[8];
};
static_assert(sizeof(Tensor) == 336 && offsetof(Tensor, op_params) == 84 && offsetof(Tensor, src) == 152 &&
              offsetof(Tensor, data) == 248);

struct Graph;  // opaque; read through ggml_graph_n_nodes and ggml_graph_node

// Only the fields that a barrier needs. Under OpenMP ggml initialises the two counters but never uses them.
struct ThreadPool {
    char mutex_and_condition[sizeof(pthread_mutex_t) + sizeof(pthread_cond_t)];
    Graph * graph;
    void * plan;
    int32_t n_graph;  // low 16 bits: threads in the running graph
    alignas(64) int32_t n_barrier;
    alignas(64) int32_t n_barrier_passed;
    alignas(64) int32_t current_chunk;
};
static_assert(offsetof(ThreadPool, n_graph) == sizeof(ThreadPool::mutex_and_condition) + 16 &&
              offsetof(ThreadPool, n_barrier) == 128 && offsetof(ThreadPool, n_barrier_passed) == 192 &&
              offsetof(ThreadPool, current_chunk) == 256);

struct ComputeParams {
    int ith, nth;    // this thread, all threads
    size_t wsize;    // the graph's work buffer, shared by all threads
    void * wdata;
    ThreadPool * threadpool;
    bool use_ref;
};
static_assert(sizeof(ComputeParams) == 40);

struct Plan {
    size_t work_size;
    uint8_t * work_data;
    int n_threads;
    ThreadPool * threadpool;
    bool (*abort_callback)(void *);
    void * abort_callback_data;
    bool use_ref;
};
static_assert(sizeof(Plan) == 56);

}  // namespace ggml
