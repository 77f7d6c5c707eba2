#define ISA_NAMESPACE medusa_peak_avxvnni
#include "../simd_avx2.h"
#include "peak.h"

extern const medusa::Peak peak_avxvnni;
const medusa::Peak peak_avxvnni = {"avxvnni", medusa_peak_avxvnni::multiply};
