#define ISA_NAMESPACE medusa_peak_neon
#include "../simd_neon.h"
#include "peak.h"

extern const medusa::Peak peak_neon;
const medusa::Peak peak_neon = {"neon", medusa_peak_neon::multiply};
