#define ISA_NAMESPACE medusa_avx512vnni
#include "simd_avx512.h"
#include "isa.h"

extern const medusa::Kernels kernels_avx512vnni;
const medusa::Kernels kernels_avx512vnni = medusa_avx512vnni::make_kernels("avx512vnni");
