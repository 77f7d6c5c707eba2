#include "cpu.h"

#include <cstring>

extern const medusa::Kernels kernels_avx512vnni, kernels_avxvnni, kernels_avx2;

namespace medusa {

const Kernels * choose_kernels(const char * name) {
    __builtin_cpu_init();
    // These builtins also check that the operating system saves the registers.
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const struct {
        const Kernels & kernels;
        bool fits;
    } choices[] = {
        {kernels_avx512vnni, avx512 && __builtin_cpu_supports("avx512vnni")},
        {kernels_avxvnni, avx2 && __builtin_cpu_supports("avxvnni")},
        {kernels_avx2, avx2},
    };
    for (const auto & c : choices) {
        if (c.fits && (!name || !*name || !std::strcmp(name, c.kernels.name))) return &c.kernels;
    }
    return nullptr;
}

}  // namespace medusa
