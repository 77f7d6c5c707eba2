#define ISA_NAMESPACE medusa_peak_avx2
#include "../simd_avx2.h"
#include "peak.h"

extern const medusa::Peak peak_avx2;
const medusa::Peak peak_avx2 = {"avx2", medusa_peak_avx2::multiply};
