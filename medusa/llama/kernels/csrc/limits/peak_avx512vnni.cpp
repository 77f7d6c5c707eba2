#define ISA_NAMESPACE medusa_peak_avx512vnni
#include "../simd_avx512.h"
#include "peak.h"

extern const medusa::Peak peak_avx512vnni;
const medusa::Peak peak_avx512vnni = {"avx512vnni", medusa_peak_avx512vnni::multiply};
