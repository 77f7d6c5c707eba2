// What the library shows of itself: everything else is hidden.
#pragma once

#include "ggml_abi.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void ggml_barrier(ggml::ThreadPool * pool);
EXPORT void ggml_compute_forward_mul_mat(const ggml::ComputeParams * params, ggml::Tensor * dst);
