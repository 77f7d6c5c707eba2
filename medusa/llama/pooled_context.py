"""Compute of a model that turns texts into vectors: whole texts in, one vector of each out."""

from collections.abc import Sequence

import numpy as np

from medusa.errors import DecodeError
from medusa.llama import runtime
from medusa.llama.batch import Batch
from medusa.llama.model import Model


class PooledContext:
    """llama.cpp's own pooling. Nothing of a batch is remembered in the next.

    Args:
        model: what computes.
        max_tokens: most tokens of a batch, and so of a text.
        max_texts: most texts of a batch.
        n_threads: to compute with.
        pooling: "mean", "last", "cls" or "rank"; None: as the model says.

    Raises:
        ModelLoadError: llama.cpp could not make the context.
        DeviceMemoryError: there is too little memory for it.
    """

    def __init__(
        self,
        model: Model,
        max_tokens: int,
        max_texts: int,
        n_threads: int,
        pooling: str | None = None,
    ) -> None:
        self._lib = llama_cpp = runtime.load().llama_cpp
        pooling = pooling or model.capabilities.pooling or "mean"
        c = llama_cpp.llama_context_default_params()
        # llama.cpp aborts where its plan's tokens are no multiple of its sequences (graph_reserve).
        c.n_ctx = c.n_batch = c.n_ubatch = -(-max_tokens // max_texts) * max_texts
        c.n_seq_max = max_texts
        c.n_threads = c.n_threads_batch = n_threads
        c.embeddings = c.kv_unified = c.no_perf = True
        c.pooling_type = getattr(llama_cpp, f"LLAMA_POOLING_TYPE_{pooling.upper()}")
        with runtime.keep_log() as log:
            handle = llama_cpp.llama_init_from_model(model.handle, c)
        if not handle:
            raise log.failure(f"llama.cpp could not create a context: {log.cause}")
        self.max_tokens = max_tokens
        self.max_texts = max_texts
        self._handle = handle
        self._memory = llama_cpp.llama_get_memory(handle)  # none, of models that only encode
        self._width = (
            int(llama_cpp.llama_model_n_cls_out(model.handle))
            if pooling == "rank"
            else model.capabilities.n_embd_out
        )
        self._batch = Batch(max_tokens, 1)
        model.let_weights_be_packed()

    def close(self) -> None:
        """Free the compute buffers."""
        if self._handle:
            self._lib.llama_free(self._handle)
            self._handle = None

    def embed(self, texts: Sequence[Sequence[int]]) -> np.ndarray:
        """The vectors of texts, given as tokens: [n_texts, width] float32, of any length.

        Raises:
            DecodeError: llama.cpp refused the batch or failed.
        """
        self._batch.clear()
        for index, tokens in enumerate(texts):
            self._batch.add_run(tokens, 0, [index], output=True)
        if self._memory:
            self._lib.llama_memory_clear(self._memory, False)
        status = self._lib.llama_decode(self._handle, self._batch.as_struct())
        if status:
            raise DecodeError(f"llama_decode of {self._batch.size} tokens failed ({status})")
        self._lib.llama_synchronize(self._handle)
        return np.array([self._vector(index) for index in range(len(texts))])

    def _vector(self, index: int) -> np.ndarray:
        pointer = self._lib.llama_get_embeddings_seq(self._handle, index)
        if not pointer:
            raise DecodeError("llama_decode gave no embedding")
        return np.ctypeslib.as_array(pointer, (self._width,)).copy()
