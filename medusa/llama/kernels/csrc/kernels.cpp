#include "kernels.h"

#include "cpu.h"

extern const medusa::Kernels kernels_avx512vnni, kernels_avxvnni, kernels_avx2;

namespace medusa {

const Kernels * choose_kernels(const char * isa) {
    return choose({&kernels_avx512vnni, &kernels_avxvnni, &kernels_avx2}, isa);
}

}  // namespace medusa
