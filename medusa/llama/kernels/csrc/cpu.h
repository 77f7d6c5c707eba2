// Which instruction sets this processor has, of those that we have code for.
#pragma once

#include <cstddef>
#include <cstring>

namespace medusa {

// Whether the processor and the operating system have it: "avx512vnni", "avxvnni", "avx2" or "neon".
bool cpu_has(const char * isa);

// The first of the items, each code for the instruction set item->name, that this processor can run, or the one of
// this name (null or "": any) if it can; else null.
template <class Item, size_t n> const Item * choose(const Item * const (&items)[n], const char * name) {
    for (const Item * item : items) {
        if ((!name || !*name || !std::strcmp(name, item->name)) && cpu_has(item->name)) return item;
    }
    return nullptr;
}

}  // namespace medusa
