"""The rows of one llama_decode."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from medusa.llama import runtime


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
        self._struct = runtime.load().llama_cpp.llama_batch(
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

    def add_run(
        self, tokens: Sequence[int], position: int, seqs: Sequence[int], *, output: bool
    ) -> int:
        """Append consecutive tokens of the same sequences; returns the first one's row."""
        start, end = self.size, self.size + len(tokens)
        self.tokens[start:end] = tokens
        self.positions[start:end] = np.arange(position, position + len(tokens))
        self._n_seqs[start:end] = len(seqs)
        self._seqs[start:end, : len(seqs)] = seqs
        self._outputs[start:end] = output
        self.size = end
        return start

    def as_struct(self) -> Any:
        """The C struct over these arrays."""
        self._struct.n_tokens = self.size
        return self._struct
