// What the hooks and Python's interface to them share.
#pragma once

#include <atomic>

#include "kernels.h"

namespace medusa {

// The functions of ggml that ours stand in for or call.
struct Originals {
    ggml::Plan (*graph_plan)(const ggml::Graph *, int, ggml::ThreadPool *);
    int (*graph_compute)(ggml::Graph *, ggml::Plan *);
    void (*barrier)(ggml::ThreadPool *);
    void (*mul_mat)(const ggml::ComputeParams *, ggml::Tensor *);
    void (*flash_attn_ext)(const ggml::ComputeParams *, ggml::Tensor *);
    bool (*extra_compute_forward)(ggml::ComputeParams *, ggml::Tensor *);
    const ggml::CpuTypeTraits * (*cpu_type_traits)(int);
    size_t (*type_size)(int);
    size_t (*row_size)(int, int64_t);
    int (*graph_n_nodes)(ggml::Graph *);
    ggml::Tensor * (*graph_node)(ggml::Graph *, int);
};

// Set by bind() before anything is enabled.
struct Binding {
    Originals original = {};
    const Kernels * kernels = nullptr;
    int op_mul_mat = -1, op_mul_mat_id = -1, op_flash_attn_ext = -1, op_soft_max = -1, op_solve_tri = -1;
};
extern Binding binding;

extern std::atomic<uint32_t> enabled;  // bits of Enable

// How often our code ran: an inert library shows as zeros.
extern std::atomic<uint64_t> mat_mul_calls, attention_calls;
// Thread pools that do not look as ggml_abi.h says; found by graph computations, read by the self-test.
extern std::atomic<uint64_t> unexpected_pools;

}  // namespace medusa
