// Packed copies of weights, where the kernels are faster with them (Kernels::pack).
//
// Only weights that their owner has registered are packed, at their first use in a product, and the copies live until
// the owner forgets them, before it frees the weights: so an address that is used again never meets an old copy.
#pragma once

#include "kernels.h"

namespace medusa {

// owner: any identity, a model's handle say.
void register_weights(const void * owner, const ggml::Tensor & weights);
void forget_weights(const void * owner);

// The packed copy of registered weights, made now if there is none; null if these are not packed. The threads that
// help are gone when it returns.
const uint8_t * packed_copy(const ggml::Tensor & weights, int n_threads);

// Of all copies that live.
size_t packed_bytes();

}  // namespace medusa
