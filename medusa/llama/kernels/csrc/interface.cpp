// The interface for medusa/llama/kernels/library.py.
#include <dlfcn.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "fallthrough.h"
#include "hooks.h"
#include "packing.h"
#include "state.h"

using medusa::binding;

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace medusa {

Binding binding;
std::atomic<uint32_t> enabled{0};
std::atomic<uint64_t> mat_mul_calls{0}, attention_calls{0}, unexpected_pools{0};

}  // namespace medusa

namespace {

constexpr int kOperations = 101;  // of ggml

// The function of this name in the library behind handle itself, not ours.
template <class F> bool resolve(void * handle, const char * name, F & function) {
    function = reinterpret_cast<F>(dlsym(handle, name));
    return function != nullptr;
}

}  // namespace

// Finds the originals in the libraries at these paths, which must be loaded already. Returns null or what is wrong.
EXPORT const char * medusa_kernels_bind(const char * ggml_cpu, const char * ggml_base, const char * isa) {
    binding.kernels = medusa::choose_kernels(isa);
    void * cpu = dlopen(ggml_cpu, RTLD_NOW | RTLD_NOLOAD);
    void * base = dlopen(ggml_base, RTLD_NOW | RTLD_NOLOAD);
    if (!cpu || !base) return "ggml libraries are not loaded";
    const char * (*op_name)(int);
    size_t (*tensor_overhead)();
    void (*chunk_set)(ggml::ThreadPool *, int);
    if (!resolve(cpu, "ggml_graph_plan", binding.original.graph_plan) ||
        !resolve(cpu, "ggml_graph_compute", binding.original.graph_compute) ||
        !resolve(cpu, "ggml_barrier", binding.original.barrier) ||
        !resolve(cpu, "ggml_compute_forward_mul_mat", binding.original.mul_mat) ||
        !resolve(cpu, "ggml_compute_forward_flash_attn_ext", binding.original.flash_attn_ext) ||
        !resolve(cpu, "ggml_cpu_extra_compute_forward", binding.original.extra_compute_forward) ||
        !resolve(cpu, "ggml_threadpool_chunk_set", chunk_set) || !resolve(base, "ggml_op_name", op_name) ||
        !resolve(base, "ggml_tensor_overhead", tensor_overhead) ||
        !resolve(cpu, "ggml_get_type_traits_cpu", binding.original.cpu_type_traits) ||
        !resolve(base, "ggml_type_size", binding.original.type_size) ||
        !resolve(base, "ggml_row_size", binding.original.row_size) ||
        !resolve(base, "ggml_graph_n_nodes", binding.original.graph_n_nodes) ||
        !resolve(base, "ggml_graph_node", binding.original.graph_node)) {
        return "a ggml function is missing";
    }
    if (!binding.kernels) return "no kernels for this processor";
    constexpr size_t kObjectHeader = 32;
    if (tensor_overhead() != kObjectHeader + sizeof(ggml::Tensor)) return "ggml_tensor has another size";
    const struct {
        const char * name;
        int & number;
    } operations[] = {
        {"MUL_MAT", binding.op_mul_mat},     {"MUL_MAT_ID", binding.op_mul_mat_id},
        {"SOFT_MAX", binding.op_soft_max},   {"FLASH_ATTN_EXT", binding.op_flash_attn_ext},
        {"SOLVE_TRI", binding.op_solve_tri},
    };
    for (const auto & operation : operations) {
        for (int i = 0; i < kOperations && operation.number < 0; i++) {
            if (!std::strcmp(op_name(i), operation.name)) operation.number = i;
        }
        if (operation.number < 0) return "ggml has other operations";
    }
    alignas(64) char pool[1024] = {};
    chunk_set(reinterpret_cast<ggml::ThreadPool *>(pool), 0x5A5A5A5A);
    if (reinterpret_cast<ggml::ThreadPool *>(pool)->current_chunk != 0x5A5A5A5A)
        return "ggml_threadpool has another layout";
    if (medusa::rebind(cpu, medusa::replacements.data(), medusa::replacements.size())) {
        return "libggml-cpu does not call its own functions through a table";
    }
    return nullptr;
}

// Switches kernels (bits of medusa::Enable) for graphs planned from now on; not while one is being computed.
EXPORT void medusa_kernels_enable(uint32_t bits) { medusa::enabled.store(binding.kernels ? bits : 0); }

EXPORT const char * medusa_kernels_isa() { return binding.kernels ? binding.kernels->name : ""; }

// Lets all weights of a model, of the libllama at this path, be packed at their first use; owner: whom to forget them
// by. Returns null or what is wrong.
EXPORT const char * medusa_kernels_register_model(const char * libllama, const void * model) {
    using Tensors = std::vector<std::pair<std::string, ggml::Tensor *>>;
    const Tensors & (*tensors)(const void *);
    void * llama = dlopen(libllama, RTLD_NOW | RTLD_NOLOAD);
    if (!llama || !resolve(llama, "_Z29llama_internal_get_tensor_mapB5cxx11PK11llama_model", tensors)) {
        return "libllama does not tell its tensors";
    }
    for (const auto & [name, tensor] : tensors(model)) medusa::register_weights(model, *tensor);
    return nullptr;
}

EXPORT void medusa_kernels_register_tensor(const void * owner, const ggml::Tensor * weights) {
    medusa::register_weights(owner, *weights);
}

// Before the owner frees its weights; nothing may be computing with them.
EXPORT void medusa_kernels_forget(const void * owner) { medusa::forget_weights(owner); }

EXPORT size_t medusa_kernels_packed_bytes() { return medusa::packed_bytes(); }

// Since the library was loaded.
EXPORT uint64_t medusa_kernels_mat_mul_calls() { return medusa::mat_mul_calls; }
EXPORT uint64_t medusa_kernels_attention_calls() { return medusa::attention_calls; }
EXPORT uint64_t medusa_kernels_unexpected_pools() { return medusa::unexpected_pools; }

// Copies what went to stock since the last reset, at most room kinds; returns how many.
EXPORT size_t medusa_kernels_fallthrough(medusa::Fallthrough * out, size_t room) {
    return medusa::fallthrough(out, room);
}
EXPORT void medusa_kernels_reset_fallthrough() { medusa::reset_fallthrough(); }
