"""KV cache and compute of one model: batches in, logits and hidden states out."""

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from medusa.errors import DecodeError, ModelLoadError
from medusa.llama import runtime
from medusa.llama.adapters import AdapterSet
from medusa.llama.batch import Batch
from medusa.llama.model import Model
from medusa.llama.params import MAX_SEQUENCES, ContextParams


@dataclass(frozen=True)
class Outputs:
    """Views of llama.cpp's output buffers, valid until the next decode of the context."""

    logits: np.ndarray  # [n_rows, n_vocab] float32
    hidden: np.ndarray | None
    """[n_rows, n_embd] float32, after the final norm (the input of lm_head), if it was wanted."""


_REASONS = {1: "no free KV cells", 2: "aborted", -4: "an exception"}


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


def _flash_attention(model: Model, wanted: bool | None) -> int:
    """Where it is not said, llama.cpp asks the devices, unless our kernels compute all layers."""
    llama_cpp, kernels = runtime.load().llama_cpp, runtime.load().kernels
    if wanted is None and (model.offloaded_layers or not kernels.active):
        return int(llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO)
    if wanted is False:
        return int(llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED)
    return int(llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED)


def _bytes_at(state: np.ndarray) -> Any:
    return state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


class Context:
    """KV cache and compute buffers: one unified cache, labels by sequence id.

    Raises:
        ModelLoadError: the sizes do not go together, or llama.cpp could not make the context.
        DeviceMemoryError: there is too little memory for it.
    """

    def __init__(self, model: Model, params: ContextParams) -> None:
        if not 1 <= params.n_seq_max <= min(params.n_batch, params.n_ctx, MAX_SEQUENCES):
            raise ModelLoadError(
                f"n_seq_max is {params.n_seq_max}: a context needs at least one sequence, and no "
                f"more than n_batch ({params.n_batch}), n_ctx ({params.n_ctx}) and {MAX_SEQUENCES}"
            )
        self._lib = llama_cpp = runtime.load().llama_cpp
        c = llama_cpp.llama_context_default_params()
        c.n_ctx = params.n_ctx
        c.n_batch = c.n_ubatch = params.n_batch
        c.n_seq_max = params.n_seq_max
        c.n_threads = c.n_threads_batch = params.n_threads
        c.embeddings = True
        c.kv_unified = True
        c.n_rs_seq = params.n_rs_seq
        c.swa_full = params.swa_full
        c.no_perf = True
        c.type_k = c.type_v = getattr(llama_cpp, f"GGML_TYPE_{params.cache_type.name}")
        c.flash_attn_type = _flash_attention(model, params.flash_attention)
        with runtime.keep_log() as log:
            handle = llama_cpp.llama_init_from_model(model.handle, c)
        if not handle:
            raise log.failure(
                f"llama.cpp could not create a context of n_ctx {params.n_ctx} and n_seq_max "
                f"{params.n_seq_max}: {log.cause}; lower them if memory is short"
            )
        self._memory = llama_cpp.llama_get_memory(handle)
        if not self._memory:
            llama_cpp.llama_free(handle)
            raise ModelLoadError(f"{model.path} keeps no memory of its context")
        assert llama_cpp.llama_n_rs_seq(handle) == params.n_rs_seq, "llama.cpp keeps no snapshots"
        self.handle = handle
        self._embeddings = True
        self._adapters = model.adapters
        self._applied: AdapterSet = ()
        self._logits = _OutputBuffer(model.n_vocab)
        self._hidden = _OutputBuffer(model.n_embd)
        model.let_weights_be_packed()

    def close(self) -> None:
        """Free the KV cache and the compute buffers."""
        if self.handle:
            self._lib.llama_free(self.handle)
            self.handle = None

    def apply(self, adapters: AdapterSet) -> bool:
        """Compute with these adapters, all known to the model, from the next decode on.

        Returns:
            Whether others were applied before: llama.cpp then plans its computations anew, which
            takes as long as some decodes of a small model.
        """
        if adapters == self._applied:
            return False
        handles = [self._adapters[each.id].handle for each in adapters]
        kind = self._lib.llama_adapter_lora_p_ctypes
        scales = (ctypes.c_float * len(adapters))(*(each.scale for each in adapters))
        self._lib.llama_set_adapters_lora(
            self.handle, (kind * len(handles))(*handles), len(handles), scales
        )
        self._applied = adapters
        return True

    def prefill(self, batch: Batch) -> None:
        """Run a batch for its KV cells alone: no logits, no hidden states.

        Raises:
            DecodeError: llama.cpp refused the batch or failed.
        """
        self._run(batch, embeddings=False)

    def decode(self, batch: Batch, *, hidden: bool = False) -> Outputs:
        """Run a batch whose rows are all outputs; one row of logits and hidden state for each.

        Args:
            batch: the rows.
            hidden: whether hidden states are wanted. Recurrent and hybrid models then compute one
                sequence after the other (`llama_memory_recurrent::init_batch`).

        Raises:
            DecodeError: llama.cpp refused the batch or failed, or gave no logits or hidden states.
        """
        self._run(batch, embeddings=hidden)
        logits = self._lib.llama_get_logits(self.handle)
        states = self._lib.llama_get_embeddings(self.handle) if hidden else None
        if not logits or (hidden and not states):
            missing = "hidden states" if logits else "logits"
            raise DecodeError(f"llama_decode of {batch.size} tokens gave no {missing}")
        return Outputs(
            self._logits.rows(logits, batch.size),
            self._hidden.rows(states, batch.size) if hidden else None,
        )

    def _run(self, batch: Batch, *, embeddings: bool) -> None:
        if embeddings != self._embeddings:
            self._lib.llama_set_embeddings(self.handle, embeddings)
            self._embeddings = embeddings
        status = self._lib.llama_decode(self.handle, batch.as_struct())
        if status:
            reason = _REASONS.get(status, "internal error")
            raise DecodeError(f"llama_decode of {batch.size} tokens failed: {reason} ({status})")
        self._lib.llama_synchronize(self.handle)

    def copy_sequence(self, src: int, dst: int, start: int, end: int) -> None:
        """Label the cells of `src` at positions [start, end) with `dst` too. No data moves."""
        self._lib.llama_memory_seq_cp(self._memory, src, dst, start, end)

    def remove_sequence(self, seq: int, start: int, end: int = -1) -> None:
        """Take the label `seq` off its cells at positions [start, end); -1 means to the end.

        Raises:
            DecodeError: llama.cpp refuses to forget a part of a sequence, as recurrent models do
                that keep no snapshots of so many tokens.
        """
        if not self._lib.llama_memory_seq_rm(self._memory, seq, start, end):
            raise DecodeError(
                f"llama.cpp refuses a partial removal: positions {start} to {end} of sequence {seq}"
            )

    def first_position(self, seq: int) -> int:
        """The first position of a sequence that all layers still remember; -1 if it has none."""
        return int(self._lib.llama_memory_seq_pos_min(self._memory, seq))

    def sequence_bytes(self, seq: int) -> int:
        """Size of what `save_sequence` gives for a sequence."""
        return int(self._lib.llama_state_seq_get_size(self.handle, seq))

    def save_sequence(self, seq: int) -> np.ndarray:
        """A copy of what the model remembers of a sequence, as one array of bytes.

        With sliding windows, of their layers what the next token can see
        (`llama_kv_cache::state_write`).

        Raises:
            DecodeError: llama.cpp could not.
            MemoryError: there is no room for it.
        """
        state = np.empty(self.sequence_bytes(seq), np.uint8)
        written = self._lib.llama_state_seq_get_data(
            self.handle, _bytes_at(state), state.nbytes, seq
        )
        if not state.nbytes or written != state.nbytes:
            raise DecodeError(f"llama.cpp could not save sequence {seq}")
        return state

    def load_sequence(self, seq: int, state: np.ndarray) -> None:
        """Remember of a sequence what `save_sequence` gave, and nothing else.

        Raises:
            DecodeError: llama.cpp refuses it, for want of free cells or as it is of another
                context; the sequence is empty then.
        """
        read = self._lib.llama_state_seq_set_data(self.handle, _bytes_at(state), state.nbytes, seq)
        if read != state.nbytes:
            self.remove_sequence(seq, 0)
            raise DecodeError(f"llama.cpp could not load {state.nbytes} bytes as sequence {seq}")

    def clear(self, *, overwrite: bool = False) -> None:
        """Drop every cell.

        Args:
            overwrite: what they hold, too. Attention by matrix products weighs the values of cells
                that it must not see with zero, and NaN stays NaN.
        """
        self._lib.llama_memory_clear(self._memory, overwrite)
