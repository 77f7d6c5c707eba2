"""The one module that touches llama.cpp's C API.

Everything above it sees `Model`, `Context` and `Batch`, with NumPy views of llama.cpp's own
buffers instead of pointers. API reference: llama.h of the llama.cpp that llama-cpp-python vendors.
"""

import ctypes
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medusa import kernels
from medusa.errors import DecodeError, ModelLoadError

CPU_KERNELS = kernels.load()
"""Our CPU kernels, which take their places before llama.cpp is loaded."""

import llama_cpp  # noqa: E402

log = logging.getLogger("medusa.llama")

MAX_SEQUENCES = 256
"""LLAMA_MAX_SEQ: most sequence ids one context can hold."""

_LOG_LEVELS = {3: logging.WARNING, 4: logging.ERROR}


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _forward_log(level: int, text: bytes, _user_data: object) -> None:
    message = text.decode("utf-8", "replace").rstrip()
    if message:
        log.log(_LOG_LEVELS.get(level, logging.DEBUG), "%s", message)


llama_cpp.llama_log_set(_forward_log, ctypes.c_void_p(0))
llama_cpp.llama_backend_init()


def gpu_offload_available() -> bool:
    """Whether this build of llama.cpp can offload and found a device to offload to."""
    return bool(llama_cpp.llama_supports_gpu_offload())


class Model:
    """Weights and vocabulary of a GGUF file.

    Args:
        path: the GGUF file.
        gpu_layers: layers to keep on the GPU; -1 means all, 0 none.

    Raises:
        ModelLoadError: the file is missing, not a GGUF, or of an unknown architecture.
    """

    def __init__(self, path: Path, *, gpu_layers: int = 0) -> None:
        if not path.is_file():
            raise ModelLoadError(f"model file not found: {path}")
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        params.use_extra_bufts = not CPU_KERNELS.active  # ours read weights in the plain layout
        handle = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not handle:
            raise ModelLoadError(
                f"llama.cpp could not load {path}; is it a GGUF of a supported architecture?"
            )
        self.path = path
        self.handle = handle
        self.gpu_layers = gpu_layers
        self._vocab = llama_cpp.llama_model_get_vocab(handle)
        self.n_vocab: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.n_embd: int = llama_cpp.llama_model_n_embd(handle)
        self.n_ctx_train: int = llama_cpp.llama_model_n_ctx_train(handle)
        self.n_layer: int = llama_cpp.llama_model_n_layer(handle)
        self.size_bytes: int = llama_cpp.llama_model_size(handle)
        self.n_params: int = llama_cpp.llama_model_n_params(handle)

    def close(self) -> None:
        """Free the weights; contexts made from the model must be closed before."""
        if self.handle:
            llama_cpp.llama_model_free(self.handle)
            self.handle = None

    @cached_property
    def description(self) -> str:
        """llama.cpp's own summary: architecture, size class and quantisation."""
        buffer = ctypes.create_string_buffer(256)
        llama_cpp.llama_model_desc(self.handle, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    @cached_property
    def chat_template(self) -> str | None:
        """The Jinja source of the model's default chat template, if it carries one."""
        raw = llama_cpp.llama_model_chat_template(self.handle, None)
        return raw.decode("utf-8", "replace") if raw else None

    def metadata(self, key: str) -> str | None:
        """The value of a scalar GGUF metadata key, as text."""
        buffer = ctypes.create_string_buffer(4096)
        length = llama_cpp.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else None

    @cached_property
    def pieces(self) -> list[bytes]:
        """The bytes each token stands for, special tokens spelled out. Length n_vocab."""
        return [self._piece(token) for token in range(self.n_vocab)]

    @cached_property
    def eog_tokens(self) -> frozenset[int]:
        """Tokens that end a generation (EOS, EOT and the like)."""
        is_eog = llama_cpp.llama_vocab_is_eog
        return frozenset(t for t in range(self.n_vocab) if is_eog(self._vocab, t))

    @cached_property
    def control_tokens(self) -> frozenset[int]:
        """Tokens that steer the model and are not part of the text it writes."""
        is_control = llama_cpp.llama_vocab_is_control
        return frozenset(t for t in range(self.n_vocab) if is_control(self._vocab, t))

    @property
    def bos_token(self) -> int:
        """Id of the beginning-of-sequence token, -1 when the vocabulary has none."""
        return int(llama_cpp.llama_vocab_bos(self._vocab))

    @property
    def eos_token(self) -> int:
        """Id of the end-of-sequence token, -1 when the vocabulary has none."""
        return int(llama_cpp.llama_vocab_eos(self._vocab))

    @property
    def adds_bos(self) -> bool:
        """Whether tokenising with special tokens puts BOS in front."""
        return bool(llama_cpp.llama_vocab_get_add_bos(self._vocab))

    def tokenize(
        self, text: str, *, add_special: bool = True, parse_special: bool = False
    ) -> list[int]:
        """Token ids of a text.

        Args:
            add_special: put BOS/EOS around the text if the model is set up to do so.
            parse_special: read special tokens such as <|im_start|> as tokens, not as text.
        """
        raw = text.encode("utf-8", "surrogatepass")
        capacity = len(raw) + 8
        while True:
            buffer = (llama_cpp.llama_token * capacity)()
            count = llama_cpp.llama_tokenize(
                self._vocab, raw, len(raw), buffer, capacity, add_special, parse_special
            )
            if count >= 0:
                return list(buffer[:count])
            capacity = -count

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of a token list; bytes that are not UTF-8 become U+FFFD."""
        pieces = self.pieces
        return b"".join(pieces[t] for t in tokens).decode("utf-8", "replace")

    def _piece(self, token: int) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, size, 0, True)
            if length >= 0:
                return buffer.raw[:length]
            size = -length


class Batch:
    """Tokens of one llama_decode, laid out in NumPy arrays that llama.cpp reads in place.

    A row is one token: its id, its position, and the sequences it belongs to. It attends to the
    cells that carry the FIRST of its sequence ids, at positions up to its own.

    Args:
        capacity: most rows of one decode.
        max_seqs: most sequence ids of one row.
    """

    def __init__(self, capacity: int, max_seqs: int) -> None:
        self.capacity = capacity
        self.size = 0
        self.tokens = np.zeros(capacity, np.int32)
        self.positions = np.zeros(capacity, np.int32)
        self._n_seqs = np.zeros(capacity, np.int32)
        self._seqs = np.zeros((capacity, max_seqs), np.int32)
        self._outputs = np.zeros(capacity, np.int8)
        addresses = self._seqs.ctypes.data + np.arange(capacity, dtype=np.uintp) * (max_seqs * 4)
        self._seq_pointers = addresses.astype(np.uintp)
        self._struct = llama_cpp.llama_batch(
            n_tokens=0,
            token=self.tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            embd=None,
            pos=self.positions.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            n_seq_id=self._n_seqs.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=self._seq_pointers.ctypes.data_as(
                ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))
            ),
            logits=self._outputs.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def clear(self) -> None:
        """Forget all rows."""
        self.size = 0

    def add(self, token: int, position: int, seqs: Sequence[int], *, output: bool) -> int:
        """Append one token; returns its row."""
        row = self.size
        self.tokens[row] = token
        self.positions[row] = position
        self._n_seqs[row] = len(seqs)
        self._seqs[row, : len(seqs)] = seqs
        self._outputs[row] = output
        self.size = row + 1
        return row

    def add_run(self, tokens: Sequence[int], position: int, seq: int, *, output: bool) -> int:
        """Append consecutive tokens of one sequence; returns the first one's row."""
        start, end = self.size, self.size + len(tokens)
        self.tokens[start:end] = tokens
        self.positions[start:end] = np.arange(position, position + len(tokens))
        self._n_seqs[start:end] = 1
        self._seqs[start:end, 0] = seq
        self._outputs[start:end] = output
        self.size = end
        return start

    def as_struct(self) -> llama_cpp.llama_batch:
        """The C struct over these arrays."""
        self._struct.n_tokens = self.size
        return self._struct


@dataclass(frozen=True)
class Outputs:
    """Views of llama.cpp's output buffers, valid until the next decode of the context."""

    logits: np.ndarray  # [n_rows, n_vocab] float32
    hidden: np.ndarray  # [n_rows, n_embd] float32, after the final norm (the input of lm_head)


class _OutputBuffer:
    """An output buffer of llama.cpp as an array, which is made anew only when the buffer moves."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._address: int | None = None
        self._array = np.empty((0, width), np.float32)

    def rows(self, pointer: Any, count: int) -> np.ndarray:
        """[count, width] float32 at a float pointer."""
        address = ctypes.cast(pointer, ctypes.c_void_p).value
        if address != self._address or count > len(self._array):
            self._array = np.ctypeslib.as_array(pointer, (count, self._width))
            self._address = address
        return self._array[:count]


class CacheType(StrEnum):
    """Number format of the KV cache."""

    F32 = "f32"
    F16 = "f16"
    Q8_0 = "q8_0"


_GGML_TYPES = {
    CacheType.F32: llama_cpp.GGML_TYPE_F32,
    CacheType.F16: llama_cpp.GGML_TYPE_F16,
    CacheType.Q8_0: llama_cpp.GGML_TYPE_Q8_0,
}


@dataclass(frozen=True)
class ContextParams:
    """How a context is set up. Lengths are in tokens."""

    n_ctx: int
    n_seq_max: int
    n_batch: int
    n_threads: int
    flash_attention: bool | None = None  # None: llama.cpp decides, on with our CPU kernels
    cache_type: CacheType = CacheType.F16


def _flash_attention(wanted: bool | None) -> int:
    if wanted is None and not CPU_KERNELS.active:
        return int(llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO)
    if wanted is False:
        return int(llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED)
    return int(llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED)


class Context:
    """KV cache and compute buffers: one unified cache, labels by sequence id.

    Raises:
        ModelLoadError: llama.cpp could not allocate the context.
    """

    def __init__(self, model: Model, params: ContextParams) -> None:
        c = llama_cpp.llama_context_default_params()
        c.n_ctx = params.n_ctx
        c.n_batch = c.n_ubatch = params.n_batch
        c.n_seq_max = params.n_seq_max
        c.n_threads = c.n_threads_batch = params.n_threads
        c.embeddings = True
        c.kv_unified = True
        c.no_perf = True
        c.type_k = c.type_v = _GGML_TYPES[params.cache_type]
        c.flash_attn_type = _flash_attention(params.flash_attention)
        handle = llama_cpp.llama_init_from_model(model.handle, c)
        if not handle:
            raise ModelLoadError(
                f"llama.cpp could not create a context of {params.n_ctx} tokens; "
                "lower --ctx-size or --parallel if memory is short"
            )
        self.handle = handle
        self._embeddings = True
        self._logits = _OutputBuffer(model.n_vocab)
        self._hidden = _OutputBuffer(model.n_embd)
        self._memory = llama_cpp.llama_get_memory(handle)

    def close(self) -> None:
        """Free the KV cache and the compute buffers."""
        if self.handle:
            llama_cpp.llama_free(self.handle)
            self.handle = None

    def prefill(self, batch: Batch) -> None:
        """Run a batch for its KV cells alone: no logits, no hidden states.

        Raises:
            DecodeError: llama.cpp refused the batch or failed.
        """
        self._run(batch, embeddings=False)

    def decode(self, batch: Batch) -> Outputs:
        """Run a batch whose rows are all outputs; one row of logits and hidden state for each.

        Raises:
            DecodeError: llama.cpp refused the batch or failed.
        """
        self._run(batch, embeddings=True)
        return Outputs(
            self._logits.rows(llama_cpp.llama_get_logits(self.handle), batch.size),
            self._hidden.rows(llama_cpp.llama_get_embeddings(self.handle), batch.size),
        )

    def _run(self, batch: Batch, *, embeddings: bool) -> None:
        if embeddings != self._embeddings:
            llama_cpp.llama_set_embeddings(self.handle, embeddings)
            self._embeddings = embeddings
        status = llama_cpp.llama_decode(self.handle, batch.as_struct())
        if status:
            reason = {1: "no free KV cells", 2: "aborted"}.get(status, "internal error")
            raise DecodeError(f"llama_decode of {batch.size} tokens failed: {reason} ({status})")
        llama_cpp.llama_synchronize(self.handle)

    def copy_sequence(self, src: int, dst: int, start: int, end: int) -> None:
        """Label the cells of `src` at positions [start, end) with `dst` too. No data moves."""
        llama_cpp.llama_memory_seq_cp(self._memory, src, dst, start, end)

    def remove_sequence(self, seq: int, start: int, end: int = -1) -> None:
        """Take the label `seq` off its cells at positions [start, end); -1 means to the end."""
        llama_cpp.llama_memory_seq_rm(self._memory, seq, start, end)

    def clear(self) -> None:
        """Drop every cell."""
        llama_cpp.llama_memory_clear(self._memory, False)


def quantize(
    source: Path, target: Path, ftype: int, *, threads: int = 0, allow_requantize: bool = False
) -> None:
    """Write `source` in another quantisation (ftype: a LLAMA_FTYPE_* number).

    Raises:
        ModelLoadError: llama.cpp could not read or write.
    """
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = ftype
    params.nthread = threads
    params.allow_requantize = allow_requantize
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(params)
    )
    if status:
        raise ModelLoadError(f"llama.cpp could not quantise {source} to {target} ({status})")


FTYPE_F32: int = llama_cpp.LLAMA_FTYPE_ALL_F32
