// Runs every kernel on buffers of exactly the right size and prints a hash of each result: the same on all processors.
// test_compiled.py builds it with AddressSanitizer and UBSan, to see which memory is touched, and how, and for ARM.
#include <atomic>
#include <cstdio>
#include <cstdlib>
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

// FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/).
void tell(const char * what, const std::vector<int> & shape, const float * results, size_t n) {
    uint64_t hash = 0xCBF29CE484222325;
    for (size_t i = 0; i < n * sizeof(float); i++) {
        hash = (hash ^ reinterpret_cast<const uint8_t *>(results)[i]) * 0x100000001B3;
    }
    std::printf("%s", what);
    for (int size : shape) std::printf(" %d", size);
    std::printf(" %016llx\n", static_cast<unsigned long long>(hash));
}

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
    tell("product", {format.type, m, n, k, threads}, dst.get(), size_t(n) * m);

    const int together = kernels.rows_packed_together(format.type);
    if (!together || m % together) return;
    auto packed = array<uint8_t>(m * row_bytes);
    kernels.pack(format.type, mm.weights, 0, m / together, packed.get());
    auto again = array<float>(size_t(n) * m);
    mm.weights = mm.next = {packed.get(), row_bytes, m, true};
    mm.dst = {again.get(), m};
    run.id = run_id++;
    on_threads(threads, [&](const medusa::Worker & w) { kernels.mat_mul(mm, w, run, scratch.get()); });
    if (std::memcmp(dst.get(), again.get(), size_t(n) * m * sizeof(float))) {
        std::fprintf(stderr, "packed weights of type %d give other results\n", format.type);
        std::exit(1);
    }
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
    const bool quantised = method == medusa::Method::kQuantised;
    auto scratch = array<uint8_t>(quantised ? kernels.quantised_scratch(p) : 0);
    on_threads(threads, [&](const medusa::Worker & w) {
        quantised ? kernels.quantised_products(p, w, scratch.get()) : kernels.float_products(p, w);
    });
    tell("products", {format.type, m, n, k, threads}, dst.get(), size_t(columns) * m);
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

// What models differ in.
struct Form {
    ggml::Type type;  // of the cache
    int key_size, value_size;
    bool extras;    // soft cap, ALiBi and sinks
    bool in_keys;   // values are the start of the keys' rows
};
constexpr Form kForms[] = {
    {ggml::kF16, 64, 64, false, false},   {ggml::kF16, 128, 128, false, false}, {ggml::kF16, 40, 100, false, false},
    {ggml::kF16, 80, 72, true, false},    {ggml::kF16, 192, 128, false, false}, {ggml::kF16, 576, 512, false, true},
    {ggml::kQ8_0, 32, 32, false, false},  {ggml::kQ8_0, 96, 64, true, false},   {ggml::kQ8_0, 256, 256, false, false},
    {ggml::kQ8_0, 576, 512, false, true},
};

// A cache as llama.cpp lays it out: a cell's rows of all heads side by side.
struct Cache {
    std::unique_ptr<uint8_t[]> data;
    ggml::Tensor t;

    Cache(ggml::Type type, int size, int cells, int kv_heads) {
        const size_t block = type == ggml::kF16 ? 1 : 32, block_bytes = type == ggml::kF16 ? 2 : 34;
        const size_t row = size / block * block_bytes, bytes = row * kv_heads * cells;
        data = array<uint8_t>(bytes);
        for (size_t i = 0; i < bytes; i++) data[i] = random_bits() & 0xBB;  // halves stay finite
        t = tensor(type, data.get(), block_bytes, {size, cells, kv_heads});
        t.nb[1] = row * kv_heads, t.nb[2] = row;
    }
};

void attention(const medusa::Kernels & kernels, const Form & form, int heads, int n, int cells, int threads,
               Sight sight) {
    static uint64_t run_id = 1000000;
    const int kv_heads = form.in_keys ? 1 : 2;
    auto q = array<float>(size_t(form.key_size) * n * heads), out = array<float>(size_t(form.value_size) * n * heads);
    auto mask = array<uint16_t>(size_t(cells) * n);
    auto sinks = array<float>(heads);
    for (int i = 0; i < cells * n; i++) {
        mask[i] = !sees(sight, i / cells, i % cells, n, cells) ? 0xFC00 : form.extras ? 0xBC00 : 0;  // -infinity, -1
    }
    Cache k(form.type, form.key_size, cells, kv_heads), v(form.type, form.value_size, cells, kv_heads);
    if (form.in_keys) v.t.data = k.t.data, v.t.nb[1] = k.t.nb[1], v.t.nb[2] = k.t.nb[2];
    ggml::Tensor tq = tensor(ggml::kF32, q.get(), 4, {form.key_size, n, heads}),
                 tm = tensor(ggml::kF16, mask.get(), 2, {cells, n}),
                 to = tensor(ggml::kF32, out.get(), 4, {form.value_size, heads, n});
    medusa::Attention a = {&tq, &k.t, &v.t, &tm, &to, 0.125f, 0, 0, nullptr};
    if (form.extras) a.soft_cap = 30, a.max_bias = 8, a.sinks = sinks.get();
    auto scratch = array<uint8_t>(kernels.attention_scratch(a, threads));
    medusa::RunState run = {};
    run.id = run_id++;
    on_threads(threads, [&](const medusa::Worker & w) { kernels.attention(a, w, run, scratch.get()); });
    tell("attention", {form.type, form.key_size, form.value_size, n, threads, int(sight)}, out.get(),
         size_t(form.value_size) * n * heads);
}

}  // namespace

int main(int, char ** argv) {
    const medusa::Kernels * kernels = medusa::choose_kernels(argv[1]);
    if (!kernels) return std::fprintf(stderr, "this processor has no %s\n", argv[1]), 2;
    for (const Format & format : kFormats) {
        for (int threads : {1, 2}) {
            for (int n : {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 17, 40}) {
                for (int k : {32, 64, 320}) {
                    const int k_whole = (k + format.elements - 1) / format.elements * format.elements;
                    for (int m : {16, 33}) mat_mul(*kernels, format, m, n, k_whole, threads);
                }
            }
            mat_mul(*kernels, format, 100, 3, 768, threads);
            for (int n : {1, 5, 17, 40}) products(*kernels, medusa::Method::kQuantised, format, 33, n, 256, threads);
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
    for (const Form & form : kForms) {
        for (int threads : {1, 2}) {
            for (int n : {1, 3, 8, 40}) {
                for (Sight sight : {Sight::kScattered, Sight::kPrefix}) {
                    attention(*kernels, form, 6, n, 208, threads, sight);
                }
            }
        }
    }
}
