#define ISA_NAMESPACE medusa_neon
#include "simd_neon.h"
#include "isa.h"

extern const medusa::Kernels kernels_neon;
const medusa::Kernels kernels_neon = medusa_neon::make_kernels("neon");
