#include "packing.h"

#include <sys/mman.h>

#include <cinttypes>
#include <cstdio>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "state.h"

namespace medusa {
namespace {

constexpr size_t kPage = 4096, kHugePage = 2 << 20;

// Memory from the operating system, which gets it back at once.
class Mapping {
public:
    Mapping() = default;
    explicit Mapping(size_t bytes) {
        void * p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) return;
        data_ = static_cast<uint8_t *>(p);
        bytes_ = bytes;
        if (bytes >= kHugePage) madvise(p, bytes, MADV_HUGEPAGE);
    }
    Mapping(Mapping && other) { *this = std::move(other); }
    Mapping & operator=(Mapping && other) {
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~Mapping() {
        if (data_) munmap(data_, bytes_);
    }

    uint8_t * data() const { return data_; }
    size_t bytes() const { return bytes_; }

private:
    uint8_t * data_ = nullptr;
    size_t bytes_ = 0;
};

struct Entry {
    const void * owner;
    ggml::Type type;
    int64_t k, rows;
    const Kernels * kernels = nullptr;  // whose order the copy has; null: not tried yet
    Mapping copy = {};

    bool is(const ggml::Tensor & w) const { return type == w.type && k == w.ne[0] && rows == w.ne[1]; }
};

// What may be packed, by address.
struct Registry {
    std::shared_mutex mutex;
    std::unordered_map<const void *, Entry> entries;
};

Registry & registry() {
    static Registry one;
    return one;
}

size_t size_of(const ggml::Tensor & w) { return w.ne[1] * w.nb[1]; }

bool can_be_packed(const Kernels & kernels, const ggml::Tensor & w) {
    const int together = kernels.rows_packed_together(w.type);
    return together > 0 && w.ne[1] % together == 0 && w.ne[2] * w.ne[3] == 1 &&
           w.nb[1] == binding.original.row_size(w.type, w.ne[0]);
}

// Whether the whole stretch is of files that this process only reads: their pages come back when they are read.
bool is_read_only_file(uintptr_t begin, uintptr_t end) {
    std::FILE * maps = std::fopen("/proc/self/maps", "re");
    if (!maps) return false;
    uintptr_t first, last;
    char permissions[5];
    unsigned long inode;
    bool found = false;
    char line[4352];
    while (!found && std::fgets(line, sizeof line, maps)) {
        const int fields =
            std::sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %*s %*s %lu", &first, &last, permissions, &inode);
        found = fields == 4 && first <= begin && end <= last && permissions[1] == '-' && inode != 0;
    }
    std::fclose(maps);
    return found;
}

// Whatever still wants them, rows of embeddings say, reads them from the file again.
void give_back(const ggml::Tensor & w) {
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(w.data) + kPage - 1) / kPage * kPage;
    const uintptr_t end = (reinterpret_cast<uintptr_t>(w.data) + size_of(w)) / kPage * kPage;
    if (begin < end && is_read_only_file(begin, end)) {
        madvise(reinterpret_cast<void *>(begin), end - begin, MADV_DONTNEED);
    }
}

Mapping pack(const Kernels & kernels, const ggml::Tensor & w, int n_threads) {
    Mapping copy(size_of(w));
    if (!copy.data()) return copy;
    const Weights rows = {static_cast<const uint8_t *>(w.data), w.nb[1], w.ne[1]};
    const int64_t parts = w.ne[1] / kernels.rows_packed_together(w.type);
    std::vector<std::thread> team;
    for (int i = 1; i < n_threads; i++) {
        team.emplace_back(kernels.pack, w.type, rows, parts * i / n_threads, parts * (i + 1) / n_threads, copy.data());
    }
    kernels.pack(w.type, rows, 0, parts / n_threads, copy.data());
    for (auto & thread : team) thread.join();
    give_back(w);
    return copy;
}

}  // namespace

void register_weights(const void * owner, const ggml::Tensor & weights) {
    if (!weights.data || !can_be_packed(*binding.kernels, weights)) return;
    const std::unique_lock lock(registry().mutex);
    registry().entries.try_emplace(weights.data, Entry{owner, weights.type, weights.ne[0], weights.ne[1]});
}

void forget_weights(const void * owner) {
    const std::unique_lock lock(registry().mutex);
    auto & entries = registry().entries;
    for (auto i = entries.begin(); i != entries.end();) i = i->second.owner == owner ? entries.erase(i) : std::next(i);
}

const uint8_t * packed_copy(const ggml::Tensor & weights, int n_threads) {
    const Kernels & kernels = *binding.kernels;
    const auto copy = [&](const Entry & entry) { return entry.kernels == &kernels ? entry.copy.data() : nullptr; };
    const auto find = [&] {
        auto & entries = registry().entries;
        const auto found = entries.find(weights.data);
        return found == entries.end() || !found->second.is(weights) ? nullptr : &found->second;
    };
    {
        const std::shared_lock lock(registry().mutex);
        const Entry * entry = find();
        if (!entry || entry->kernels) return entry ? copy(*entry) : nullptr;
    }
    const std::unique_lock lock(registry().mutex);
    Entry * entry = find();
    if (entry && !entry->kernels) {
        entry->copy = pack(kernels, weights, n_threads);
        entry->kernels = &kernels;
    }
    return entry ? copy(*entry) : nullptr;
}

size_t packed_bytes() {
    const std::shared_lock lock(registry().mutex);
    size_t sum = 0;
    for (const auto & [address, entry] : registry().entries) sum += entry.copy.bytes();
    return sum;
}

}  // namespace medusa
