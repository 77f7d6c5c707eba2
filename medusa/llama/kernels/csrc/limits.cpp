// What the processor can do at most: the floor that the benchmark shows beside the kernels' times.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "cpu.h"

namespace {

// Seconds until all threads have run work(thread).
template <class F> double time_threads(int threads, F work) {
    std::vector<std::thread> team;
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < threads; i++) team.emplace_back(work, i);
    for (auto & t : team) t.join();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

// Bytes a second that the threads read from memory together.
extern "C" __attribute__((visibility("default"))) double medusa_kernels_read_bandwidth(int threads) {
    constexpr size_t kBytes = 128 << 20;  // beyond the caches
    std::vector<uint64_t> memory(kBytes / 8, 1);
    std::vector<uint64_t> sums(threads * 8);
    const double seconds = time_threads(threads, [&](int t) {
        const size_t share = memory.size() / threads;
        const uint64_t * p = memory.data() + t * share;
        uint64_t a = 0, b = 0, c = 0, d = 0;  // one word a cache line keeps the line busy, not the core
        for (size_t i = 0; i + 32 <= share; i += 32) {
            __builtin_prefetch(p + i + 2048);
            __builtin_prefetch(p + i + 2064);
            a += p[i], b += p[i + 8], c += p[i + 16], d += p[i + 24];
        }
        sums[t * 8] = a + b + c + d;
    });
    return sums[0] ? kBytes / seconds : 0;
}

// Products of integers a second with all operands in registers.
extern "C" __attribute__((visibility("default"))) double medusa_kernels_peak_products(int threads) {
    const medusa::Kernels * kernels = medusa::choose_kernels(std::getenv("LLAMA_MEDUSA_KERNELS_ISA"));
    if (!kernels) return 0;
    constexpr int64_t kRounds = 2000000;
    int64_t products = 0;
    const double seconds = time_threads(threads, [&](int t) {
        const int64_t done = kernels->multiply_registers(kRounds);
        if (t == 0) products = done;
    });
    return threads * products / seconds;
}
