"""Finding, opening and driving the compiled library."""

from __future__ import annotations

import ctypes
import enum
import importlib.metadata
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from medusa.llama import ggml
from medusa.llama.gguf_files import Kind

SUPPORTED_VERSIONS = ("0.3.36",)
"""Releases of llama-cpp-python whose ggml matches csrc/ggml_abi.h."""

LIBRARY = Path(__file__).with_name("libmedusa_kernels.so")


class UnavailableError(Exception):
    """Our kernels cannot be used; the message says why."""


class Enable(enum.IntFlag):
    """What our library takes over; the bits of medusa::Enable."""

    MAT_MUL = 1
    ATTENTION = 2
    BARRIER = 4
    ALL = 7


class Operation(enum.IntEnum):
    """What may go to llama.cpp's own code; medusa::Operation."""

    PRODUCT = 0
    EXPERT_PRODUCT = 1
    ATTENTION = 2
    UNFUSED_ATTENTION = 3  # a masked softmax between products
    CHUNKED_STATE = 4  # recurrent states, several tokens at once


@dataclass(frozen=True)
class Fallthrough:
    """A kind of operation that llama.cpp's own code computed, though the batch may matter to it."""

    operation: Operation
    kind: Kind  # of the weights or keys
    size: int  # of a row of weights, or of a head
    count: int
    feature: str = ""  # what else is special about an attention


_MOST_KINDS = 64


class _Entry(ctypes.Structure):
    """medusa::Fallthrough."""

    _fields_ = [
        ("operation", ctypes.c_int32),
        ("type", ctypes.c_int32),
        ("size", ctypes.c_int64),
        ("count", ctypes.c_uint64),
        ("feature", ctypes.c_char_p),
    ]


def check_environment() -> Path:
    """The folder with ggml if everything about this installation is as we know it."""
    if not sys.platform.startswith("linux"):
        raise UnavailableError(
            f"ours take their places by Linux's loader, and this is {sys.platform}"
        )
    folder = ggml.folder()
    version = importlib.metadata.version("llama-cpp-python")
    if version not in SUPPORTED_VERSIONS:
        known = ", ".join(SUPPORTED_VERSIONS)
        raise UnavailableError(f"llama-cpp-python is {version}, the kernels know {known}")
    for name in (ggml.CPU, ggml.BASE):
        if not (folder / name).exists():
            raise UnavailableError(f"{folder} has no {name}")
    if not LIBRARY.exists():
        raise UnavailableError("the library was not built (no C++ compiler at installation?)")
    return folder


class Library:
    """The compiled library."""

    def __init__(self, path: Path = LIBRARY) -> None:
        try:
            self._lib = ctypes.CDLL(str(path))
        except OSError as error:
            raise UnavailableError(f"the library does not load: {error}") from error
        self._lib.medusa_kernels_bind.restype = ctypes.c_char_p
        self._lib.medusa_kernels_bind.argtypes = [ctypes.c_char_p] * 3
        self._lib.medusa_kernels_isa.restype = ctypes.c_char_p
        self._lib.medusa_kernels_enable.restype = None
        self._lib.medusa_kernels_enable.argtypes = [ctypes.c_uint32]
        for name in ("mat_mul_calls", "attention_calls", "unexpected_pools"):
            getattr(self._lib, f"medusa_kernels_{name}").restype = ctypes.c_uint64
        self._lib.medusa_kernels_fallthrough.restype = ctypes.c_size_t
        self._lib.medusa_kernels_fallthrough.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._lib.medusa_kernels_reset_fallthrough.restype = None
        self._lib.medusa_kernels_register_model.restype = ctypes.c_char_p
        self._lib.medusa_kernels_register_model.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
        self._lib.medusa_kernels_register_tensor.restype = None
        self._lib.medusa_kernels_register_tensor.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._lib.medusa_kernels_forget.restype = None
        self._lib.medusa_kernels_forget.argtypes = [ctypes.c_void_p]
        self._lib.medusa_kernels_packed_bytes.restype = ctypes.c_size_t

    def bind(self, folder: Path, isa: str = "") -> None:
        """Load ggml, take the places of its functions, choose kernels (isa: force which).

        Not to be called while a graph is being computed.
        """
        ggml.functions()
        cpu, base = folder / ggml.CPU, folder / ggml.BASE
        problem = self._lib.medusa_kernels_bind(os.fsencode(cpu), os.fsencode(base), isa.encode())
        if problem is not None:
            raise UnavailableError(problem.decode())

    @property
    def isa(self) -> str:
        """Instruction set in use, "" before `bind`."""
        name: bytes = self._lib.medusa_kernels_isa()
        return name.decode()

    def enable(self, what: Enable) -> None:
        """Takes effect with the next graph; not to be called while one is being computed."""
        self._lib.medusa_kernels_enable(what)

    @property
    def packed_bytes(self) -> int:
        """Of all packed copies that live."""
        return int(self._lib.medusa_kernels_packed_bytes())

    def register_model(self, model: object) -> None:
        """Let a llama_model's weights be packed, each at its first use in a product.

        Raises:
            UnavailableError: this libllama does not tell what tensors it has.
        """
        path = os.fsencode(ggml.folder() / "libllama.so")
        problem = self._lib.medusa_kernels_register_model(path, model)
        if problem is not None:
            raise UnavailableError(problem.decode())

    def register_tensor(self, owner: int, tensor: int) -> None:
        """The same for one ggml_tensor; owner: any number to forget it by."""
        self._lib.medusa_kernels_register_tensor(owner, tensor)

    def forget(self, owner: object) -> None:
        """Free the packed copies of a model's or owner's weights, which come before these.

        Nothing may be computing with them.
        """
        self._lib.medusa_kernels_forget(owner)

    @property
    def mat_mul_calls(self) -> int:
        """Matrix products that our code has computed so far."""
        return int(self._lib.medusa_kernels_mat_mul_calls())

    @property
    def attention_calls(self) -> int:
        """Attentions that our code has computed so far."""
        return int(self._lib.medusa_kernels_attention_calls())

    @property
    def unexpected_pools(self) -> int:
        """Thread pools whose layout was not the one that our barrier relies on."""
        return int(self._lib.medusa_kernels_unexpected_pools())

    def fallthrough(self) -> list[Fallthrough]:
        """What has gone past our code since the last reset, while any of it was enabled."""
        entries = (_Entry * _MOST_KINDS)()
        count = self._lib.medusa_kernels_fallthrough(entries, _MOST_KINDS)
        return [
            Fallthrough(Operation(e.operation), Kind(e.type), e.size, e.count, e.feature.decode())
            for e in entries[:count]
        ]

    def reset_fallthrough(self) -> None:
        """Forget it."""
        self._lib.medusa_kernels_reset_fallthrough()
