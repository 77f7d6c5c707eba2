"""A llama.cpp context just large enough to compare logits; run in a process of its own."""

from __future__ import annotations

import llama_cpp
import numpy as np

from medusa.llama.gguf_files import Kind

N_VOCAB = 49152


class Model:
    def __init__(self, path: str, threads: int = 2) -> None:
        params = llama_cpp.llama_model_default_params()
        params.use_extra_bufts = False
        params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), params)
        self.threads = threads
        self.cache_type = Kind.F16

    def context(self) -> Context:
        return Context(self)


class Context:
    def __init__(self, model: Model) -> None:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = 512, 512, 512, 8
        params.n_threads = params.n_threads_batch = model.threads
        params.flash_attn_type = 1
        params.type_k = params.type_v = model.cache_type
        params.kv_unified = True
        self.pointer = llama_cpp.llama_init_from_model(model.model, params)
        self.batch = llama_cpp.llama_batch_init(512, 0, 1)

    def decode(self, tokens: list[tuple[int, int, int]], logits: bool = True) -> np.ndarray:
        """tokens: (token, position, sequence) -> logits [len(tokens), N_VOCAB]."""
        self.batch.n_tokens = len(tokens)
        for i, (token, position, sequence) in enumerate(tokens):
            self.batch.token[i], self.batch.pos[i] = token, position
            self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, sequence
            self.batch.logits[i] = logits
        assert llama_cpp.llama_decode(self.pointer, self.batch) == 0
        if not logits:
            return np.empty((0, N_VOCAB), np.float32)
        address = llama_cpp.llama_get_logits(self.pointer)
        return np.ctypeslib.as_array(address, shape=(len(tokens), N_VOCAB)).copy()
