// Runs every kernel on buffers of exactly the right size; built with AddressSanitizer and UBSan by
// test_sanitizers.py. Content is arbitrary: what counts is which memory is touched, and how.
#include <atomic>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "kernels.h"

namespace {

std::mt19937 random_bits(7);

// An allocation of its own, so that one byte too far is an error.
template <class T> std::unique_ptr<T[]> array(size_t n) { return std::unique_ptr<T[]>(new T[n]()); }

struct Pool {
    std::atomic<int> waiting{0}, round{0};
    int threads;
};
Pool pool;

void barrier(ggml::ThreadPool *) {
    const int round = pool.round;
    if (++pool.waiting == pool.threads) {
        pool.waiting = 0;
        pool.round++;
    } else {
        while (pool.round == round) std::this_thread::yield();
    }
}

template <class F> void on_threads(int threads, F work) {
    pool.threads = threads;
    std::vector<std::thread> team;
    for (int i = 0; i < threads; i++) {
        team.emplace_back([=] { work(medusa::Worker{i, threads, nullptr, barrier}); });
    }
    for (auto & t : team) t.join();
}

struct Format {
    ggml::Type type;
    int elements, bytes;  // of a block
};
constexpr Format kFormats[] = {
    {ggml::kQ4_0, 32, 18},   {ggml::kQ4_1, 32, 20},   {ggml::kQ5_0, 32, 22},     {ggml::kQ5_1, 32, 24},
    {ggml::kQ8_0, 32, 34},   {ggml::kQ4_K, 256, 144}, {ggml::kQ5_K, 256, 176},   {ggml::kQ6_K, 256, 210},
    {ggml::kQ3_K, 256, 110}, {ggml::kIQ4_NL, 32, 18}, {ggml::kIQ4_XS, 256, 136}, {ggml::kMXFP4, 32, 17},
};
constexpr Format kFloats[] = {{ggml::kF32, 1, 4}, {ggml::kF16, 1, 2}, {ggml::kBF16, 1, 2}};

void mat_mul(const medusa::Kernels & kernels, const Format & format, int m, int n, int k, int threads) {
    static uint64_t run_id = 1;
    const size_t row_bytes = size_t(k) / format.elements * format.bytes;
    auto weights = array<uint8_t>(m * row_bytes);
    for (size_t i = 0; i < m * row_bytes; i++) weights[i] = random_bits() & 0x3B;  // scales stay finite
    auto src = array<float>(size_t(n) * k), dst = array<float>(size_t(n) * m);
    for (int i = 0; i < n * k; i++) src[i] = float(random_bits() % 2001) / 1000 - 1;
    auto scratch = array<uint8_t>(kernels.mat_mul_scratch(format.type, n, k));
    medusa::RunState run = {};
    run.id = run_id++;
    medusa::MatMul mm = {};
    mm.type = format.type;
    mm.weights = mm.next = {weights.get(), row_bytes, m};
    mm.src = {src.get(), k};
    mm.dst = {dst.get(), m};
    mm.n = n, mm.k = k, mm.source = &mm;
    on_threads(threads, [&](const medusa::Worker & w) { kernels.mat_mul(mm, w, run, scratch.get()); });
}

// Groups of n, 1 and 3 columns.
void products(const medusa::Kernels & kernels, medusa::Method method, const Format & format, int m, int n, int k,
              int threads) {
    const size_t row_bytes = size_t(k) / format.elements * format.bytes;
    const medusa::Group ranges[] = {{nullptr, 0, n}, {nullptr, n, n + 1}, {nullptr, n + 1, n + 4}};
    std::unique_ptr<uint8_t[]> weights[3];
    std::vector<medusa::Group> groups(ranges, ranges + 3);
    for (int g = 0; g < 3; g++) {
        weights[g] = array<uint8_t>(m * row_bytes);
        for (size_t i = 0; i < m * row_bytes; i++) weights[g][i] = random_bits() & 0x3B;
        groups[g].weights = weights[g].get();
    }
    const int columns = n + 4;
    auto src = array<float>(size_t(columns) * k), dst = array<float>(size_t(columns) * m);
    for (int i = 0; i < columns * k; i++) src[i] = float(random_bits() % 2001) / 1000 - 1;
    std::vector<int64_t> from, to;
    for (int c = 0; c < columns; c++) {
        from.push_back(int64_t(columns - 1 - c) * k);
        to.push_back(int64_t(c) * m);
    }
    medusa::Products p = {method, format.type, m, k, row_bytes, columns, 3, groups.data(), {}, {}};
    p.src = {src.get(), 0, from.data()};
    p.dst = {dst.get(), 0, to.data()};
    const bool packed = method == medusa::Method::kPacked;
    auto scratch = array<uint8_t>(packed ? kernels.packed_scratch(p) : 0);
    on_threads(threads, [&](const medusa::Worker & w) {
        packed ? kernels.packed_products(p, w, scratch.get()) : kernels.float_products(p, w);
    });
}

ggml::Tensor tensor(ggml::Type type, void * data, size_t item, std::initializer_list<int64_t> shape) {
    ggml::Tensor t = {};
    t.type = type;
    t.data = data;
    size_t stride = item;
    for (int i = 0; i < 4; i++) {
        t.ne[i] = i < int(shape.size()) ? shape.begin()[i] : 1;
        t.nb[i] = stride;
        stride *= t.ne[i];
    }
    return t;
}

// Masks: queries that see a third of the cells each, which makes blocks of one; or all cells up to their own, but
// one tile each, which makes blocks of many.
enum class Sight { kScattered, kPrefix };

bool sees(Sight sight, int query, int cell, int n, int cells) {
    if (sight == Sight::kScattered) return random_bits() % 3 == 0;
    return cell <= cells - n + query && cell / 16 != query % (cells / 16);
}

void attention(const medusa::Kernels & kernels, int dim, int heads, int kv_heads, int n, int cells, int threads,
               Sight sight) {
    static uint64_t run_id = 1000000;
    auto q = array<float>(size_t(dim) * n * heads), out = array<float>(size_t(dim) * n * heads);
    auto k = array<uint16_t>(size_t(dim) * cells * kv_heads), v = array<uint16_t>(size_t(dim) * cells * kv_heads);
    auto mask = array<uint16_t>(size_t(cells) * n);
    for (int i = 0; i < cells * n; i++)
        mask[i] = sees(sight, i / cells, i % cells, n, cells) ? 0 : 0xFC00;  // -infinity
    for (int i = 0; i < dim * cells * kv_heads; i++) k[i] = v[i] = random_bits() & 0xBBFF;
    ggml::Tensor tq = tensor(ggml::kF32, q.get(), 4, {dim, n, heads}),
                 tk = tensor(ggml::kF16, k.get(), 2, {dim, cells, kv_heads});
    ggml::Tensor tv = tensor(ggml::kF16, v.get(), 2, {dim, cells, kv_heads}),
                 tm = tensor(ggml::kF16, mask.get(), 2, {cells, n});
    ggml::Tensor to = tensor(ggml::kF32, out.get(), 4, {dim, heads, n});
    const medusa::Attention a = {&tq, &tk, &tv, &tm, &to, 0.125f};
    auto scratch = array<uint8_t>(kernels.attention_scratch(a, threads));
    medusa::RunState run = {};
    run.id = run_id++;
    on_threads(threads, [&](const medusa::Worker & w) { kernels.attention(a, w, run, scratch.get()); });
}

}  // namespace

int main(int, char ** argv) {
    const medusa::Kernels * kernels = medusa::choose_kernels(argv[1]);
    if (!kernels) return std::printf("this processor has no %s\n", argv[1]), 0;
    for (const Format & format : kFormats) {
        for (int threads : {1, 2}) {
            for (int n : {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 17, 40}) {
                for (int k : {32, 64, 320}) {
                    const int k_whole = (k + format.elements - 1) / format.elements * format.elements;
                    for (int m : {16, 33}) mat_mul(*kernels, format, m, n, k_whole, threads);
                }
            }
            mat_mul(*kernels, format, 100, 3, 768, threads);
            for (int n : {1, 5, 17, 40}) products(*kernels, medusa::Method::kPacked, format, 33, n, 256, threads);
        }
    }
    for (const Format & format : kFloats) {
        for (int threads : {1, 2}) {
            for (int n : {1, 2, 3, 7, 40}) {
                for (int k : {1, 15, 16, 300}) {
                    for (int m : {1, 5, 33}) products(*kernels, medusa::Method::kFloats, format, m, n, k, threads);
                }
            }
        }
    }
    for (int dim : {64, 128}) {
        for (int threads : {1, 2}) {
            for (int n : {1, 3, 8, 40}) {
                for (Sight sight : {Sight::kScattered, Sight::kPrefix}) {
                    attention(*kernels, dim, 6, 2, n, 208, threads, sight);
                }
            }
        }
    }
    std::printf("%s: clean\n", kernels->name);
}
