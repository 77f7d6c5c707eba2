// Where the tensors of a loaded model are, which llama.h does not tell.

#include <string>
#include <utility>
#include <vector>

namespace {

// The beginning of ggml_tensor.
struct Tensor {
    int type;
    void * buffer;
};

using Tensors = std::vector<std::pair<std::string, const Tensor *>>;
using TensorsOf = const Tensors & (*)(const void * model);
using TypeOf = void * (*)(void * buffer);

} // namespace

// The model's tensor of this name in a buffer of this type, or null: a model may have one in several.
// tensors_of: llama_internal_get_tensor_map; type_of: ggml_backend_buffer_get_type.
extern "C" __attribute__((visibility("default"))) const void * medusa_find_tensor(TensorsOf tensors_of, TypeOf type_of,
                                                                                  const void * model, const char * name,
                                                                                  const void * buffer_type) {
    for (const auto & [its_name, tensor] : tensors_of(model)) {
        if (its_name == name && tensor->buffer && type_of(tensor->buffer) == buffer_type) return tensor;
    }
    return nullptr;
}
