"""Everything native: llama.cpp, ggml, GGUF files and our CPU kernels. No other room does."""
