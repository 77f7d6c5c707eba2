// What libggml-cpu is to call in place of its own functions.
#pragma once

#include <array>

#include "rebind.h"

namespace medusa {

extern const std::array<Replacement, 6> replacements;

}  // namespace medusa
