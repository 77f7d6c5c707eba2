// Calls that one library makes, led elsewhere.
#pragma once

#include <cstddef>

namespace medusa {

struct Replacement {
    const char * name;
    void * function;
};

// Makes the library behind handle, and no other, call these functions in place of those of the same names, which it
// calls through its procedure linkage table. Returns null, or which name it does not call so.
const char * rebind(void * handle, const Replacement * replacements, size_t count);

}  // namespace medusa
