#include "cpu.h"

#ifdef __aarch64__

#include <sys/auxv.h>

namespace medusa {

bool cpu_has(const char * isa) {
    constexpr unsigned long kDotProducts = 1 << 20;  // HWCAP_ASIMDDP
    return !std::strcmp(isa, "neon") && (getauxval(AT_HWCAP) & kDotProducts) != 0;
}

}  // namespace medusa

#else

namespace medusa {

bool cpu_has(const char * isa) {
    __builtin_cpu_init();
    // These builtins also check that the operating system saves the registers.
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (!std::strcmp(isa, "avx512vnni")) return avx512 && __builtin_cpu_supports("avx512vnni");
    if (!std::strcmp(isa, "avxvnni")) return avx2 && __builtin_cpu_supports("avxvnni");
    return avx2 && !std::strcmp(isa, "avx2");
}

}  // namespace medusa

#endif
