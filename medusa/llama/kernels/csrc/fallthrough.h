// What llama.cpp's own code computed though the result for one row may depend on the rest of the batch, on the number
// of threads or on the places of cells. A model without any is exact.
#pragma once

#include <cstddef>

#include "ggml_abi.h"

namespace medusa {

// Numbers as in medusa/llama/kernels/library.py.
enum class Operation : int32_t { kProduct, kExpertProduct, kAttention, kUnfusedAttention, kChunkedState };

// One kind of operation.
struct Fallthrough {
    Operation operation;
    int32_t type;          // of the weights or keys
    int64_t size;          // elements of a row of weights, or of a head
    uint64_t count;        // how often
    const char * feature;  // what else is special about an attention, or ""
};
static_assert(sizeof(Fallthrough) == 32);

// Whether an operation that we never compute is of that sort.
bool is_inexact_elsewhere(const ggml::Tensor & dst);

// Counts the operation that computes dst. From any thread, as the others.
void record_fallthrough(const ggml::Tensor & dst);

// Copies at most room kinds since the last reset; returns how many.
size_t fallthrough(Fallthrough * out, size_t room);
void reset_fallthrough();

}  // namespace medusa
