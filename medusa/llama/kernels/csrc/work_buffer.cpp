#include "work_buffer.h"

#include <algorithm>

#include "dot_products.h"
#include "match.h"
#include "packing.h"

namespace medusa {
namespace {

constexpr size_t kRunStateRoom = 128;
static_assert(sizeof(RunState) + 63 <= kRunStateRoom);

std::atomic<uint64_t> next_run{1};

size_t align(size_t n) { return (n + 63) / 64 * 64; }

RunState * run_state_at(void * work, size_t size) {
    if (!work || size < kRunStateRoom) return nullptr;
    const uintptr_t end = reinterpret_cast<uintptr_t>(work) + size;
    return reinterpret_cast<RunState *>((end - sizeof(RunState)) / 64 * 64);
}

void list_products(ggml::Graph * graph, size_t count, int n_threads, RunState & run) {
    const uintptr_t end = reinterpret_cast<uintptr_t>(&run) - align(count * sizeof(Product));
    run.products = reinterpret_cast<Product *>(end);
    const int nodes = binding.original.graph_n_nodes(graph);
    for (int i = 0; i < nodes; i++) {
        const ggml::Tensor * node = binding.original.graph_node(graph, i);
        MatMul mm;
        if (as_mat_mul(*binding.kernels, *node, mm)) {
            run.products[run.n_products++] = {node, packed_copy(*node->src[0], n_threads)};
        }
    }
}

}  // namespace

Needs::Needs(ggml::Graph * graph, int n_threads, size_t stock) : start(stock) {
    const Kernels & kernels = *binding.kernels;
    const int nodes = binding.original.graph_n_nodes(graph);
    for (int i = 0; i < nodes; i++) {
        ggml::Tensor * node = binding.original.graph_node(graph, i);
        if (node->op == binding.op_mul_mat || node->op == binding.op_mul_mat_id) {
            MatMul mm;
            Products p;
            if (as_mat_mul(kernels, *node, mm)) {
                mat_mul = std::max(mat_mul, kernels.mat_mul_scratch(mm.type, mm.n, mm.k));
                products++;
            } else if (as_products(kernels, *node, p)) {
                mat_mul = std::max(mat_mul, products_scratch(p));
            }
        } else if (node->op == binding.op_flash_attn_ext) {
            Attention a;
            if (!as_attention(*node, a)) continue;
            start = std::max(start, kernels.attention_scratch(a, n_threads));
        }
    }
}

size_t products_scratch(const Products & p) {
    switch (p.method) {
        case Method::kQuantised: return binding.kernels->quantised_scratch(p);
        case Method::kDots: return dot_scratch(p);
        default: return 0;
    }
}

size_t Needs::total() const {
    return align(start) + align(mat_mul) + align(products * sizeof(Product)) + 2 * 64 + kRunStateRoom;
}

void start_run(ggml::Graph * graph, const ggml::Plan & plan, uint32_t enabled) {
    RunState * run = run_state_at(plan.work_data, plan.work_size);
    if (!run) return;
    *run = {0, next_run.fetch_add(1), enabled, 0, nullptr, nullptr, 0};
    if (!enabled) return;
    const Needs needs(graph, plan.n_threads, 0);
    if (plan.work_size < needs.total()) return;
    run->magic = RunState::kMagic;
    list_products(graph, needs.products, plan.n_threads, *run);
}

RunState * active_run(const ggml::ComputeParams & params, Enable what) {
    RunState * run = run_state_at(params.wdata, params.wsize);
    return run && run->magic == RunState::kMagic && (run->enabled & what) && !params.use_ref ? run : nullptr;
}

uint8_t * mat_mul_scratch(const RunState & run, size_t bytes) {
    return reinterpret_cast<uint8_t *>((reinterpret_cast<uintptr_t>(run.products) - bytes) / 64 * 64);
}

}  // namespace medusa
