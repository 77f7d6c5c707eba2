#include "rebind.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

namespace {

// What the dynamic linker goes by, from the library's dynamic section (System V ABI, "Dynamic Linking").
struct Calls {
    const ElfW(Rela) * entries = nullptr;  // of the procedure linkage table
    size_t count = 0;
    const ElfW(Sym) * symbols = nullptr;
    const char * names = nullptr;
};

Calls calls_of(const link_map & library) {
    Calls calls;
    for (const ElfW(Dyn) * entry = library.l_ld; entry->d_tag != DT_NULL; entry++) {
        const auto pointer = entry->d_un.d_ptr;  // glibc has added the library's address
        switch (entry->d_tag) {
            case DT_JMPREL: calls.entries = reinterpret_cast<const ElfW(Rela) *>(pointer); break;
            case DT_PLTRELSZ: calls.count = entry->d_un.d_val / sizeof(ElfW(Rela)); break;
            case DT_SYMTAB: calls.symbols = reinterpret_cast<const ElfW(Sym) *>(pointer); break;
            case DT_STRTAB: calls.names = reinterpret_cast<const char *>(pointer); break;
        }
    }
    return calls;
}

// The linker may have made the table read-only (RELRO); it stays writable then, as without RELRO.
bool write_slot(void ** slot, void * function) {
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    void * start = reinterpret_cast<void *>(reinterpret_cast<uintptr_t>(slot) & ~(page - 1));
    if (mprotect(start, page, PROT_READ | PROT_WRITE)) return false;
    __atomic_store_n(slot, function, __ATOMIC_RELEASE);
    return true;
}

}  // namespace

const char * medusa::rebind(void * handle, const Replacement * replacements, size_t count) {
    link_map * library;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &library)) return replacements[0].name;
    const Calls calls = calls_of(*library);
    for (size_t r = 0; r < count; r++) {
        bool found = false;
        for (size_t i = 0; i < calls.count && !found; i++) {
            const ElfW(Rela) & entry = calls.entries[i];
            const ElfW(Sym) & symbol = calls.symbols[ELF64_R_SYM(entry.r_info)];
            if (std::strcmp(calls.names + symbol.st_name, replacements[r].name)) continue;
            found = write_slot(reinterpret_cast<void **>(library->l_addr + entry.r_offset), replacements[r].function);
        }
        if (!found) return replacements[r].name;
    }
    return nullptr;
}
