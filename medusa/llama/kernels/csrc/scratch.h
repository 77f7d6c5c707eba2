// Per-thread scratch memory that grows on demand and lives as long as the thread.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

namespace ISA_NAMESPACE {

enum Slot {
    // matmul.h
    kSumsSlot,
    kActivationsSlot,
    // cells.h
    kBitsSlot,
    kBlockSlot,
    kUnionSlot,
    kCellsSlot,
    kLiveSlot,
    // attention_block.h, attention.h
    kScoreSlot,
    kQuerySlot,
    kSlopesSlot,
    kKeysSlot,
    kKeyRowsSlot,
    kValuesSlot,
    kMassSumsSlot,
    kBoundsSlot,
    kMassSlot,
    kItemsSlot,
    kSlots,
};

class Buffer {
public:
    ~Buffer() { std::free(data_); }

    void * reserve(size_t bytes) {
        if (bytes > size_) {
            std::free(data_);
            size_ = (bytes + bytes / 4 + 63) / 64 * 64;
            data_ = std::aligned_alloc(64, size_);
            if (!data_) std::abort();
        }
        return data_;
    }

private:
    void * data_ = nullptr;
    size_t size_ = 0;
};

// Contents last until the slot's next use by this thread.
template <class T> T * thread_scratch(Slot slot, size_t count) {
    static thread_local Buffer buffers[kSlots];
    return static_cast<T *>(buffers[slot].reserve(count * sizeof(T)));
}

}  // namespace ISA_NAMESPACE
