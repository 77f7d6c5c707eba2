// llama.cpp's functions that compute for requests, but exceptions end here: llama.h lets them
// through, and an exception that meets ctypes ends the process.

#include <climits>
#include <cstdint>
#include <cstdio>
#include <exception>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// llama_batch of llama.h
struct Batch {
    int32_t n_tokens;
    int32_t * token;
    float * embd;
    int32_t * pos;
    int32_t * n_seq_id;
    int32_t ** seq_id;
    int8_t * logits;
};

using Decode = int32_t (*)(void * context, Batch batch);
using Tokenize = int32_t (*)(const void * vocab, const char * text, int32_t length, int32_t * tokens, int32_t capacity,
                             bool add_special, bool parse_special);

constexpr int32_t DECODE_THREW = -4; // llama_decode itself gives no less than -3
constexpr int32_t TOKENIZE_THREW = INT32_MIN; // as where the tokens are too many to count

Decode decode = nullptr;
Tokenize tokenize = nullptr;
thread_local char message[256] = "";

template <typename Function> int32_t guarded(int32_t if_thrown, Function function) noexcept {
    try {
        return function();
    } catch (const std::exception & error) {
        std::snprintf(message, sizeof message, "%s", error.what());
    } catch (...) {
        std::snprintf(message, sizeof message, "an unknown exception");
    }
    return if_thrown;
}

} // namespace

EXPORT void medusa_guard_bind(Decode real_decode, Tokenize real_tokenize) {
    decode = real_decode;
    tokenize = real_tokenize;
}

EXPORT int32_t medusa_guard_decode(void * context, Batch batch) {
    return guarded(DECODE_THREW, [&] { return decode(context, batch); });
}

EXPORT int32_t medusa_guard_tokenize(const void * vocab, const char * text, int32_t length, int32_t * tokens,
                                     int32_t capacity, bool add_special, bool parse_special) {
    return guarded(TOKENIZE_THREW,
                   [&] { return tokenize(vocab, text, length, tokens, capacity, add_special, parse_special); });
}

// What this thread caught last, "" for nothing; it is forgotten then.
EXPORT void medusa_guard_take(char * text, int32_t size) {
    std::snprintf(text, size, "%s", message);
    message[0] = '\0';
}
