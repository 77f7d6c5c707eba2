// What limits.cpp and the loops of each instruction set know of each other.
#pragma once

#include <cstdint>

namespace medusa {

struct Peak {
    const char * name;                    // of the instruction set
    int64_t (*multiply)(int64_t rounds);  // returns how many products that was
};

}  // namespace medusa
