// Which of ggml's operations our kernels compute, and what they are to the kernels.
#pragma once

#include "kernels.h"

namespace medusa {

// Both fill in the second argument and return true if the operation that computes dst is one of ours.
bool as_mat_mul(const Kernels & kernels, const ggml::Tensor & dst, MatMul & mm);
bool as_attention(ggml::Tensor & dst, Attention & a);

}  // namespace medusa
