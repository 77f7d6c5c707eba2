// Replacements for functions of libggml-cpu, which calls them through its procedure linkage table.
//
// This library is loaded, with global symbols, before libggml-cpu, so the dynamic linker binds those calls to the
// functions of the same names below. Each does our work or hands over to the original. How a graph is computed:
//     ggml_graph_plan       also reserves our scratch memory, and a RunState at the end of the work buffer
//     ggml_graph_compute    initialises the RunState; without one, everything below is stock
//     ggml_compute_forward_mul_mat, ggml_compute_forward_flash_attn_ext
//     ggml_barrier          spins, where OpenMP's makes a system call each time
#include <dlfcn.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

using medusa::Attention;
using medusa::Kernels;
using medusa::MatMul;
using medusa::RunState;
using medusa::Worker;

namespace {

struct Originals {
    ggml::Plan (*graph_plan)(const ggml::Graph *, int, ggml::ThreadPool *);
    int (*graph_compute)(ggml::Graph *, ggml::Plan *);
    void (*barrier)(ggml::ThreadPool *);
    void (*mul_mat)(const ggml::ComputeParams *, ggml::Tensor *);
    void (*flash_attn_ext)(const ggml::ComputeParams *, ggml::Tensor *);
    int (*graph_n_nodes)(ggml::Graph *);
    ggml::Tensor * (*graph_node)(ggml::Graph *, int);
} original;

const Kernels * kernels = nullptr;
int op_mul_mat = -1, op_flash_attn_ext = -1;
std::atomic<uint32_t> enabled{0};
std::atomic<uint64_t> next_run{1};

// How often our code ran, by bit of medusa::Enable: an inert library shows as zeros.
std::atomic<uint64_t> calls[3];
// Whether thread pools look as ggml_abi.h says; set by graph computations, read by the self-test.
std::atomic<int> pools_seen{0}, pools_wrong{0};

constexpr size_t kRunStateRoom = 128;

size_t align(size_t n) { return (n + 63) / 64 * 64; }

RunState * run_state_at(void * work, size_t size) {
    if (!work || size < kRunStateRoom) return nullptr;
    const uintptr_t end = reinterpret_cast<uintptr_t>(work) + size;
    return reinterpret_cast<RunState *>((end - sizeof(RunState)) / 64 * 64);
}

// The state of the running computation if it may use our kernels for what.
RunState * active(const ggml::ComputeParams * params, uint32_t what) {
    RunState * run = run_state_at(params->wdata, params->wsize);
    return run && run->magic == RunState::kMagic && (run->enabled & what) && !params->use_ref ? run : nullptr;
}

bool rows_evenly_spaced(const ggml::Tensor & t) {
    return t.nb[0] == 4 && t.nb[1] % 4 == 0 && (t.ne[2] == 1 || t.nb[2] == t.ne[1] * t.nb[1]) &&
           (t.ne[3] == 1 || t.nb[3] == t.ne[2] * t.nb[2]);
}

bool as_mat_mul(const ggml::Tensor & dst, MatMul & mm) {
    const ggml::Tensor & w = *dst.src[0], & x = *dst.src[1];
    const int hint = dst.op_params[1];
    if (hint || !kernels->supports(w.type) || x.type != ggml::kF32 || dst.type != ggml::kF32) return false;
    if (w.ne[2] != 1 || w.ne[3] != 1 || w.ne[0] % 64 != 0 || w.ne[1] < 16) return false;
    if (!rows_evenly_spaced(x) || !rows_evenly_spaced(dst)) return false;
    mm.type = w.type;
    mm.weights = {static_cast<const uint8_t *>(w.data), w.nb[1], w.ne[1]};
    mm.src = static_cast<const float *>(x.data);
    mm.src_stride = x.nb[1] / 4;
    mm.dst = static_cast<float *>(dst.data);
    mm.dst_stride = dst.nb[1] / 4;
    mm.k = w.ne[0];
    mm.n = x.ne[1] * x.ne[2] * x.ne[3];
    mm.source = &x;
    mm.next = mm.weights;
    mm.follows = false;
    return mm.n > 0;
}

bool as_attention(ggml::Tensor & dst, Attention & a) {
    const ggml::Tensor & q = *dst.src[0], & k = *dst.src[1], & v = *dst.src[2];
    const ggml::Tensor * mask = dst.src[3], * sinks = dst.src[4];
    float scale, max_bias, softcap;
    std::memcpy(&scale, dst.op_params, 4);
    std::memcpy(&max_bias, dst.op_params + 1, 4);
    std::memcpy(&softcap, dst.op_params + 2, 4);
    if (sinks || max_bias != 0 || softcap != 0) return false;
    if (q.type != ggml::kF32 || k.type != ggml::kF16 || v.type != ggml::kF16) return false;
    if ((q.ne[0] != 64 && q.ne[0] != 128) || v.ne[0] != q.ne[0] || k.ne[1] % 16 != 0) return false;
    if (q.nb[0] != 4 || k.nb[0] != 2 || v.nb[0] != 2 || dst.nb[0] != 4) return false;
    if (k.ne[2] != v.ne[2] || q.ne[2] % k.ne[2] != 0 || k.ne[3] != q.ne[3] || v.ne[3] != q.ne[3]) return false;
    if (mask && (mask->type != ggml::kF16 || mask->ne[0] != k.ne[1] || mask->ne[1] < q.ne[1] || mask->ne[2] != 1)) {
        return false;
    }
    a = {&q, &k, &v, mask, &dst, scale};
    return true;
}

// What our kernels need of the work buffer. From its start: attention scratch (any operation may overwrite it); at
// its end, after everything that stock operations use: matrix scratch, list of products, RunState.
struct Needs {
    size_t start = 0, products = 0, mat_mul = 0;

    size_t total() const {
        return align(start) + align(mat_mul) + align(products * sizeof(ggml::Tensor *)) + 2 * 64 + kRunStateRoom;
    }
};

Needs needs(ggml::Graph * graph, int n_threads) {
    Needs need;
    const int nodes = original.graph_n_nodes(graph);
    for (int i = 0; i < nodes; i++) {
        ggml::Tensor * node = original.graph_node(graph, i);
        if (node->op == op_mul_mat) {
            MatMul mm;
            if (!as_mat_mul(*node, mm)) continue;
            const size_t bytes = kernels->mat_mul_scratch(mm.type, mm.n, mm.k);
            need.mat_mul = std::max(need.mat_mul, bytes);
            need.products++;
        } else if (node->op == op_flash_attn_ext) {
            Attention a;
            if (!as_attention(*node, a)) continue;
            need.start = std::max(need.start, kernels->attention_scratch(a, n_threads));
        }
    }
    return need;
}

void list_products(ggml::Graph * graph, size_t count, RunState & run) {
    const uintptr_t end = reinterpret_cast<uintptr_t>(&run) - align(count * sizeof(ggml::Tensor *));
    run.products = reinterpret_cast<const ggml::Tensor **>(end);
    const int nodes = original.graph_n_nodes(graph);
    for (int i = 0; i < nodes; i++) {
        const ggml::Tensor * node = original.graph_node(graph, i);
        MatMul mm;
        if (node->op == op_mul_mat && as_mat_mul(*node, mm)) run.products[run.n_products++] = node;
    }
}

// Fills in what follows and precedes a product. Threads meet all products in order, so each keeps its own place.
void find_neighbours(const RunState & run, const ggml::Tensor * dst, MatMul & mm) {
    static thread_local struct {
        uint64_t run;
        int64_t index;
    } place = {};
    if (place.run != run.id) place = {run.id, 0};
    const int64_t i = place.index;
    if (i >= run.n_products || run.products[i] != dst) return;
    place.index++;
    mm.follows = i > 0;
    if (i + 1 == run.n_products) return;
    const ggml::Tensor & w = *run.products[i + 1]->src[0];
    mm.next = {static_cast<const uint8_t *>(w.data), w.nb[1], w.ne[1]};
}

void check_pool(const ggml::ComputeParams * params) {
    if (params->ith != 0) return;
    const ggml::ThreadPool & pool = *params->threadpool;
    pools_seen++;
    if ((pool.n_graph & 0xFFFF) != params->nth) pools_wrong++;
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
            __builtin_ia32_pause();
        } else {
            sched_yield();  // another process has our partner's core
        }
    }
}

// The function of this name in the library behind handle itself, not ours.
template <class F> bool resolve(void * handle, const char * name, F & function) {
    function = reinterpret_cast<F>(dlsym(handle, name));
    return function != nullptr;
}

}  // namespace

EXPORT void ggml_barrier(ggml::ThreadPool * pool) {
    if (!(enabled.load(std::memory_order_relaxed) & medusa::kBarrier)) return original.barrier(pool);
    const int n_threads = __atomic_load_n(&pool->n_graph, __ATOMIC_RELAXED) & 0xFFFF;
    if (n_threads > 1) spin_barrier(pool, n_threads);
}

EXPORT ggml::Plan ggml_graph_plan(const ggml::Graph * graph, int n_threads, ggml::ThreadPool * pool) {
    ggml::Plan plan = original.graph_plan(graph, n_threads, pool);
    if (enabled.load() & (medusa::kMatMul | medusa::kAttention)) {
        Needs need = needs(const_cast<ggml::Graph *>(graph), plan.n_threads);
        need.start = std::max(need.start, plan.work_size);
        plan.work_size = need.total();
    }
    return plan;
}

EXPORT int ggml_graph_compute(ggml::Graph * graph, ggml::Plan * plan) {
    if (RunState * run = run_state_at(plan->work_data, plan->work_size)) {
        const uint32_t now = enabled.load();
        *run = {0, next_run.fetch_add(1), now, 0, nullptr, nullptr, 0};
        if (now) {
            const Needs need = needs(graph, plan->n_threads);
            if (plan->work_size >= need.total()) {
                run->magic = RunState::kMagic;
                list_products(graph, need.products, *run);
            }
        }
    }
    return original.graph_compute(graph, plan);
}

EXPORT void ggml_compute_forward_mul_mat(const ggml::ComputeParams * params, ggml::Tensor * dst) {
    RunState * run = active(params, medusa::kMatMul);
    MatMul mm;
    if (!run || !as_mat_mul(*dst, mm)) return original.mul_mat(params, dst);
    check_pool(params);
    if (params->ith == 0) calls[0].fetch_add(1, std::memory_order_relaxed);
    const Worker worker = {params->ith, params->nth, params->threadpool, ggml_barrier};
    const size_t bytes = kernels->mat_mul_scratch(mm.type, mm.n, mm.k);
    const uintptr_t scratch = (reinterpret_cast<uintptr_t>(run->products) - bytes) / 64 * 64;
    find_neighbours(*run, dst, mm);
    kernels->mat_mul(mm, worker, *run, reinterpret_cast<uint8_t *>(scratch));
}

EXPORT void ggml_compute_forward_flash_attn_ext(const ggml::ComputeParams * params, ggml::Tensor * dst) {
    RunState * run = active(params, medusa::kAttention);
    Attention a;
    if (!run || !as_attention(*dst, a)) return original.flash_attn_ext(params, dst);
    if (params->ith == 0) calls[1].fetch_add(1, std::memory_order_relaxed);
    const Worker worker = {params->ith, params->nth, params->threadpool, ggml_barrier};
    kernels->attention(a, worker, *run, static_cast<uint8_t *>(params->wdata));
}

// ---- the interface for medusa/kernels/library.py ----

// Finds the originals in the libraries at these paths, which must be loaded already. Returns null or what is wrong.
EXPORT const char * medusa_kernels_bind(const char * ggml_cpu, const char * ggml_base, const char * isa) {
    kernels = medusa::choose_kernels(isa);
    void * cpu = dlopen(ggml_cpu, RTLD_NOW | RTLD_NOLOAD);
    void * base = dlopen(ggml_base, RTLD_NOW | RTLD_NOLOAD);
    if (!cpu || !base) return "ggml libraries are not loaded";
    const char * (*op_name)(int);
    size_t (*tensor_overhead)();
    void (*chunk_set)(ggml::ThreadPool *, int);
    if (!resolve(cpu, "ggml_graph_plan", original.graph_plan) ||
        !resolve(cpu, "ggml_graph_compute", original.graph_compute) ||
        !resolve(cpu, "ggml_barrier", original.barrier) ||
        !resolve(cpu, "ggml_compute_forward_mul_mat", original.mul_mat) ||
        !resolve(cpu, "ggml_compute_forward_flash_attn_ext", original.flash_attn_ext) ||
        !resolve(cpu, "ggml_threadpool_chunk_set", chunk_set) || !resolve(base, "ggml_op_name", op_name) ||
        !resolve(base, "ggml_tensor_overhead", tensor_overhead) ||
        !resolve(base, "ggml_graph_n_nodes", original.graph_n_nodes) ||
        !resolve(base, "ggml_graph_node", original.graph_node)) {
        return "a ggml function is missing";
    }
    if (original.mul_mat == ggml_compute_forward_mul_mat) return "the originals cannot be told from ours";
    if (!kernels) return "no kernels for this processor";
    constexpr size_t kObjectHeader = 32;
    if (tensor_overhead() != kObjectHeader + sizeof(ggml::Tensor)) return "ggml_tensor has another size";
    for (int i = 0; i < 200 && (op_mul_mat < 0 || op_flash_attn_ext < 0); i++) {
        if (!std::strcmp(op_name(i), "MUL_MAT")) op_mul_mat = i;
        if (!std::strcmp(op_name(i), "FLASH_ATTN_EXT")) op_flash_attn_ext = i;
    }
    if (op_mul_mat < 0 || op_flash_attn_ext < 0) return "ggml has other operations";
    alignas(64) char pool[1024] = {};
    chunk_set(reinterpret_cast<ggml::ThreadPool *>(pool), 0x5A5A5A5A);
    if (reinterpret_cast<ggml::ThreadPool *>(pool)->current_chunk != 0x5A5A5A5A) return "ggml_threadpool has another layout";
    return nullptr;
}

// Switches kernels (bits of medusa::Enable) for graphs planned from now on; not while one is being computed.
EXPORT void medusa_kernels_enable(uint32_t bits) { enabled.store(kernels ? bits : 0); }

EXPORT const char * medusa_kernels_isa() { return kernels ? kernels->name : ""; }

// Calls so far that our code answered: 0 matrix products, 1 attention; 2, 3: thread pools seen, of them unexpected.
EXPORT uint64_t medusa_kernels_count(int which) {
    return which < 2 ? calls[which].load() : which == 2 ? pools_seen.load() : pools_wrong.load();
}
