#define ISA_NAMESPACE medusa_avxvnni
#include "simd_avx2.h"
#include "isa.h"

extern const medusa::Kernels kernels_avxvnni;
const medusa::Kernels kernels_avxvnni = medusa_avxvnni::make_kernels("avxvnni");
