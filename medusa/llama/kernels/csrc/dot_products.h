// Products of all other types, by ggml's own dot product of one row with one column. That makes them as exact as ours:
// what llama.cpp does with several columns at once is left out.
#pragma once

#include "kernels.h"

namespace medusa {

size_t dot_scratch(const Products & p);  // bytes, shared by the threads
void dot_products(const Products & p, const Worker & worker, uint8_t * scratch);

}  // namespace medusa
