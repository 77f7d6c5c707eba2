// Replacements for functions of libggml-cpu, which calls them through its procedure linkage table.
//
// Its entries there are set to the functions below (rebind.h). Each does our work or hands over to the original. How a
// graph is computed:
//     ggml_graph_plan       also reserves our part of the work buffer (work_buffer.h)
//     ggml_graph_compute    starts a run there; without one, everything below is stock
//     ggml_compute_forward_mul_mat, ggml_compute_forward_flash_attn_ext
//     ggml_cpu_extra_compute_forward  is asked before every operation: products with experts
//     ggml_barrier          spins, where OpenMP's makes a system call each time
#include "hooks.h"

#include <sched.h>

#include "dot_products.h"
#include "fallthrough.h"
#include "match.h"
#include "work_buffer.h"

using medusa::Attention;
using medusa::binding;
using medusa::MatMul;
using medusa::Products;
using medusa::RunState;
using medusa::Worker;

namespace {

// Fills in what follows and precedes a product, and the packed copy of its weights. Threads meet all products in order,
// so each keeps its own place.
void find_neighbours(const RunState & run, const ggml::Tensor * dst, MatMul & mm) {
    static thread_local struct {
        uint64_t run;
        int64_t index;
    } place = {};
    if (place.run != run.id) place = {run.id, 0};
    const int64_t i = place.index;
    if (i >= run.n_products || run.products[i].dst != dst) return;
    const auto weights = [](const medusa::Product & product) -> medusa::Weights {
        const ggml::Tensor & w = *product.dst->src[0];
        const bool packed = product.packed != nullptr;
        return {packed ? product.packed : static_cast<const uint8_t *>(w.data), w.nb[1], w.ne[1], packed};
    };
    place.index++;
    mm.follows = i > 0;
    mm.weights = weights(run.products[i]);
    mm.next = weights(run.products[i + 1 < run.n_products ? i + 1 : i]);
}

void check_pool(const ggml::ComputeParams & params) {
    if ((params.threadpool->n_graph & 0xFFFF) != params.nth) medusa::unexpected_pools++;
}

void pause_thread() {
#ifdef __aarch64__
    asm volatile("yield");
#else
    __builtin_ia32_pause();
#endif
}

void spin_barrier(ggml::ThreadPool * pool, int n_threads) {
    constexpr int kSpins = 4096;
    const int passed = __atomic_load_n(&pool->n_barrier_passed, __ATOMIC_RELAXED);
    if (__atomic_fetch_add(&pool->n_barrier, 1, __ATOMIC_ACQ_REL) == n_threads - 1) {
        __atomic_store_n(&pool->n_barrier, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&pool->n_barrier_passed, passed + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spins = 0; __atomic_load_n(&pool->n_barrier_passed, __ATOMIC_ACQUIRE) == passed; spins++) {
        if (spins < kSpins) {
            pause_thread();
        } else {
            sched_yield();  // another process has our partner's core
        }
    }
}

void barrier(ggml::ThreadPool * pool) {
    if (!(medusa::enabled.load(std::memory_order_relaxed) & medusa::kBarrier)) return binding.original.barrier(pool);
    const int n_threads = __atomic_load_n(&pool->n_graph, __ATOMIC_RELAXED) & 0xFFFF;
    if (n_threads > 1) spin_barrier(pool, n_threads);
}

Worker worker_of(const ggml::ComputeParams & params) { return {params.ith, params.nth, params.threadpool, barrier}; }

void compute_mat_mul(const ggml::ComputeParams & params, RunState & run, const ggml::Tensor & dst, MatMul & mm) {
    if (params.ith == 0) {
        check_pool(params);
        medusa::mat_mul_calls.fetch_add(1, std::memory_order_relaxed);
    }
    find_neighbours(run, &dst, mm);
    const size_t bytes = binding.kernels->mat_mul_scratch(mm.type, mm.n, mm.k);
    binding.kernels->mat_mul(mm, worker_of(params), run, medusa::mat_mul_scratch(run, bytes));
}

void compute_products(const ggml::ComputeParams & params, RunState & run, const ggml::Tensor & dst, Products & p) {
    if (params.ith == 0) {
        check_pool(params);
        medusa::mat_mul_calls.fetch_add(1, std::memory_order_relaxed);
    }
    uint8_t * scratch = medusa::mat_mul_scratch(run, medusa::products_scratch(p));
    medusa::find_groups(dst, p);
    switch (p.method) {
        case medusa::Method::kFloats: return binding.kernels->float_products(p, worker_of(params));
        case medusa::Method::kQuantised: binding.kernels->quantised_products(p, worker_of(params), scratch); break;
        case medusa::Method::kDots: medusa::dot_products(p, worker_of(params), scratch); break;
    }
    if (params.ith == 0) run.shared_source = nullptr;  // overwritten
}

// While our kernels are enabled at all.
void note_fallthrough(const ggml::ComputeParams & params, const ggml::Tensor & dst) {
    if (params.ith == 0 && medusa::enabled.load(std::memory_order_relaxed)) medusa::record_fallthrough(dst);
}

ggml::Plan graph_plan(const ggml::Graph * graph, int n_threads, ggml::ThreadPool * pool) {
    ggml::Plan plan = binding.original.graph_plan(graph, n_threads, pool);
    if (medusa::enabled.load() & (medusa::kMatMul | medusa::kAttention)) {
        const medusa::Needs needs(const_cast<ggml::Graph *>(graph), plan.n_threads, plan.work_size);
        plan.work_size = needs.total();
    }
    return plan;
}

int graph_compute(ggml::Graph * graph, ggml::Plan * plan) {
    medusa::start_run(graph, *plan, medusa::enabled.load());
    return binding.original.graph_compute(graph, plan);
}

void mul_mat(const ggml::ComputeParams * params, ggml::Tensor * dst) {
    RunState * run = medusa::active_run(*params, medusa::kMatMul);
    MatMul mm;
    Products p;
    if (run && medusa::as_mat_mul(*binding.kernels, *dst, mm)) {
        compute_mat_mul(*params, *run, *dst, mm);
    } else if (run && medusa::as_products(*binding.kernels, *dst, p)) {
        compute_products(*params, *run, *dst, p);
    } else {
        note_fallthrough(*params, *dst);
        binding.original.mul_mat(params, dst);
    }
}

void flash_attn_ext(const ggml::ComputeParams * params, ggml::Tensor * dst) {
    const RunState * run = medusa::active_run(*params, medusa::kAttention);
    Attention a;
    if (!run || !medusa::as_attention(*dst, a)) {
        note_fallthrough(*params, *dst);
        return binding.original.flash_attn_ext(params, dst);
    }
    if (params->ith == 0) medusa::attention_calls.fetch_add(1, std::memory_order_relaxed);
    binding.kernels->attention(a, worker_of(*params), *run, static_cast<uint8_t *>(params->wdata));
}

// Asked before every operation. Stock computes here what has weights in a layout of its own; we compute what has no
// function that could be replaced, and see what is not ours at all.
bool extra_compute_forward(ggml::ComputeParams * params, ggml::Tensor * dst) {
    const bool done = binding.original.extra_compute_forward(params, dst);
    const bool experts = dst->op == binding.op_mul_mat_id;
    RunState * run = experts && !done ? medusa::active_run(*params, medusa::kMatMul) : nullptr;
    Products p;
    if (run && medusa::as_products(*binding.kernels, *dst, p)) {
        compute_products(*params, *run, *dst, p);
        return true;
    }
    if (done || experts || medusa::is_inexact_elsewhere(*dst)) note_fallthrough(*params, *dst);
    return done;
}

}  // namespace

const std::array<medusa::Replacement, 6> medusa::replacements = {{
    {"ggml_graph_plan", reinterpret_cast<void *>(graph_plan)},
    {"ggml_graph_compute", reinterpret_cast<void *>(graph_compute)},
    {"ggml_barrier", reinterpret_cast<void *>(barrier)},
    {"ggml_compute_forward_mul_mat", reinterpret_cast<void *>(mul_mat)},
    {"ggml_compute_forward_flash_attn_ext", reinterpret_cast<void *>(flash_attn_ext)},
    {"ggml_cpu_extra_compute_forward", reinterpret_cast<void *>(extra_compute_forward)},
}};
