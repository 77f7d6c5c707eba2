// Which kernels this processor can run.
#pragma once

#include "kernels.h"

namespace medusa {

// The best kernels for this processor, or those named if it has them; null if there are none.
const Kernels * choose_kernels(const char * name);

}  // namespace medusa
