#define ISA_NAMESPACE medusa_avx2
#include "simd_avx2.h"
#include "isa.h"

extern const medusa::Kernels kernels_avx2;
const medusa::Kernels kernels_avx2 = medusa_avx2::make_kernels("avx2");
