#include "kernels.h"

#include "cpu.h"

#ifdef __aarch64__
extern const medusa::Kernels kernels_neon;
constexpr const medusa::Kernels * kKernels[] = {&kernels_neon};
#else
extern const medusa::Kernels kernels_avx512vnni, kernels_avxvnni, kernels_avx2;
constexpr const medusa::Kernels * kKernels[] = {&kernels_avx512vnni, &kernels_avxvnni, &kernels_avx2};
#endif

namespace medusa {

const Kernels * choose_kernels(const char * isa) { return choose(kKernels, isa); }

}  // namespace medusa
