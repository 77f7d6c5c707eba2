// Which of ggml's operations our kernels compute, and what they are to the kernels.
#pragma once

#include "kernels.h"

namespace medusa {

// These fill in the last argument and return true if the operation that computes dst is one of ours.
bool as_mat_mul(const Kernels & kernels, const ggml::Tensor & dst, MatMul & mm);
bool as_products(const Kernels & kernels, const ggml::Tensor & dst, Products & p);  // all but groups and places
bool as_attention(ggml::Tensor & dst, Attention & a);

// Finds the groups and the places of their columns, once the operands are computed. They last until this thread asks
// again.
void find_groups(const ggml::Tensor & dst, Products & p);

}  // namespace medusa
