// What the processor can do at most: the floor that the benchmark shows beside the kernels' times. A library of its
// own, libmedusa_limits.so, for medusa/llama/kernels/limits.py.
#include <time.h>

#include <chrono>
#include <cstdint>
#include <numeric>
#include <thread>
#include <vector>

#include "../cpu.h"
#include "limits.h"

#ifdef __aarch64__
extern const medusa::Peak peak_neon;
constexpr const medusa::Peak * kPeaks[] = {&peak_neon};
#else
extern const medusa::Peak peak_avx512vnni, peak_avxvnni, peak_avx2;
constexpr const medusa::Peak * kPeaks[] = {&peak_avx512vnni, &peak_avxvnni, &peak_avx2};
#endif

namespace {

// Runs work(thread) in all threads.
template <class F> void on_threads(int threads, F work) {
    std::vector<std::thread> team;
    for (int i = 0; i < threads; i++) team.emplace_back(work, i);
    for (auto & t : team) t.join();
}

// Seconds that this thread has had the processor: what other programs take does not count.
double processor_seconds() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

}  // namespace

// Bytes a second that the threads read from memory together.
extern "C" __attribute__((visibility("default"))) double medusa_limits_read_bandwidth(int threads) {
    constexpr size_t kBytes = 128 << 20;  // beyond the caches
    std::vector<uint64_t> memory(kBytes / 8, 1);
    std::vector<uint64_t> sums(threads * 8);
    const auto start = std::chrono::steady_clock::now();
    on_threads(threads, [&](int t) {
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
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return sums[0] ? kBytes / seconds : 0;
}

// Products of integers a second of all threads together, with all operands in registers. isa: which instruction set, ""
// for the best; 0 if the processor does not have it.
extern "C" __attribute__((visibility("default"))) double medusa_limits_peak_products(const char * isa, int threads) {
    const medusa::Peak * peak = medusa::choose(kPeaks, isa);
    if (!peak) return 0;
    constexpr int64_t kRounds = 1000000;
    std::vector<double> rates(threads);
    on_threads(threads, [&](int t) {
        const double start = processor_seconds();
        const int64_t products = peak->multiply(kRounds);
        rates[t] = products / (processor_seconds() - start);
    });
    return std::accumulate(rates.begin(), rates.end(), 0.0);
}
