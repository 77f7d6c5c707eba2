// Our part of a graph's work buffer. From its start: attention scratch, which any operation may overwrite; at its end,
// after everything that stock operations use: matrix scratch, list of products, RunState.
#pragma once

#include "state.h"

namespace medusa {

// What our kernels need for one graph.
struct Needs {
    size_t start = 0;     // bytes, including those of stock operations
    size_t mat_mul = 0;   // bytes
    size_t products = 0;  // how many

    Needs(ggml::Graph * graph, int n_threads, size_t stock);
    size_t total() const;
};

// Writes the state of a computation into its work buffer, if that has room; without one, everything is stock.
void start_run(ggml::Graph * graph, const ggml::Plan & plan, uint32_t enabled);

// The state of the running computation if it may use our kernels for what (a bit of Enable), else null.
RunState * active_run(const ggml::ComputeParams & params, Enable what);

// What products need of scratch memory that threads share, in bytes.
size_t products_scratch(const Products & p);

// Where a product's scratch of so many bytes lies.
uint8_t * mat_mul_scratch(const RunState & run, size_t bytes);

}  // namespace medusa
