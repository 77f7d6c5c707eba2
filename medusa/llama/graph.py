"""Small computations on ggml's CPU backend, through its public C API.

A `Cpu` holds constants and a team of threads, a `Graph` what is computed from them. Matrix products
go through our kernels where those are active, as a model's do. API reference:
ggml.h, ggml-alloc.h, ggml-backend.h and ggml-cpu.h.

Shapes are ggml's here: the fastest dimension first, so that a [rows, width] array is [width, rows].
ggml aborts the process where shapes or types do not fit.
"""

import contextlib
import ctypes
import functools
import math
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NewType

import gguf
import numpy as np

from medusa.llama import runtime
from medusa.llama.kernels.library import UnavailableError, ggml_folder

Kind = gguf.GGMLQuantizationType
Tensor = NewType("Tensor", int)
"""A ggml_tensor's address."""

ALIGNMENT = 32
"""What ggml asks of the addresses of constants, in bytes; that of most GGUF files."""


class GgmlUnavailableError(Exception):
    """The installed ggml cannot be used this way; the message says why."""


class _InitParams(ctypes.Structure):
    _fields_ = [
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    ]


_POINTER, _INT, _I64, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_size_t
_UNARY, _BINARY = (_POINTER,) * 2, (_POINTER,) * 3  # the context and one or two tensors

_BASE_FUNCTIONS: dict[str, tuple[object, ...]] = {  # result, arguments
    "ggml_init": (_POINTER, _InitParams),
    "ggml_free": (None, _POINTER),
    "ggml_tensor_overhead": (_SIZE,),
    "ggml_graph_overhead_custom": (_SIZE, _SIZE, ctypes.c_bool),
    "ggml_get_data": (_POINTER, _POINTER),
    "ggml_row_size": (_SIZE, _INT, _I64),
    "ggml_quantize_chunk": (_SIZE, _INT, _POINTER, _POINTER, _I64, _I64, _I64, _POINTER),
    "ggml_new_tensor_2d": (_POINTER, _POINTER, _INT, _I64, _I64),
    "ggml_set_input": (None, _POINTER),
    "ggml_set_output": (None, _POINTER),
    "ggml_mul_mat": (_POINTER, *_BINARY),
    "ggml_add": (_POINTER, *_BINARY),
    "ggml_silu": (_POINTER, *_UNARY),
    "ggml_rms_norm": (_POINTER, *_UNARY, ctypes.c_float),
    "ggml_soft_max": (_POINTER, *_UNARY),
    "ggml_concat": (_POINTER, *_BINARY, _INT),
    "ggml_top_k": (_POINTER, *_UNARY, _INT),
    "ggml_argmax": (_POINTER, *_UNARY),
    "ggml_get_rows": (_POINTER, *_BINARY),
    "ggml_reshape_1d": (_POINTER, *_UNARY, _I64),
    "ggml_reshape_2d": (_POINTER, *_UNARY, _I64, _I64),
    "ggml_reshape_3d": (_POINTER, *_UNARY, _I64, _I64, _I64),
    "ggml_new_graph_custom": (_POINTER, _POINTER, _SIZE, ctypes.c_bool),
    "ggml_build_forward_expand": (None, _POINTER, _POINTER),
    "ggml_gallocr_new": (_POINTER, _POINTER),
    "ggml_gallocr_alloc_graph": (ctypes.c_bool, _POINTER, _POINTER),
    "ggml_gallocr_free": (None, _POINTER),
    "ggml_backend_get_default_buffer_type": (_POINTER, _POINTER),
    "ggml_backend_alloc_ctx_tensors": (_POINTER, _POINTER, _POINTER),
    "ggml_backend_cpu_buffer_from_ptr": (_POINTER, _POINTER, _SIZE),
    "ggml_backend_buffer_free": (None, _POINTER),
    "ggml_backend_tensor_alloc": (_INT, _POINTER, _POINTER, _POINTER),
    "ggml_backend_tensor_set": (None, _POINTER, _POINTER, _SIZE, _SIZE),
    "ggml_backend_graph_compute": (_INT, _POINTER, _POINTER),
    "ggml_backend_free": (None, _POINTER),
}
_CPU_FUNCTIONS: dict[str, tuple[object, ...]] = {
    "ggml_backend_cpu_init": (_POINTER,),
    "ggml_backend_cpu_set_n_threads": (None, _POINTER, _INT),
}


@functools.cache
def _ggml() -> SimpleNamespace:
    """The functions above, without their prefix."""
    runtime.load()
    try:
        folder = ggml_folder()
    except UnavailableError as error:
        raise GgmlUnavailableError(str(error)) from error
    base = _functions(folder / "libggml-base.so.0", _BASE_FUNCTIONS)
    return SimpleNamespace(**base, **_functions(folder / "libggml-cpu.so.0", _CPU_FUNCTIONS))


def _functions(path: Path, signatures: dict[str, tuple[object, ...]]) -> dict[str, object]:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise GgmlUnavailableError(f"{path} does not load: {error}") from error
    functions = {}
    for name, (result, *arguments) in signatures.items():
        function = getattr(library, name, None)
        if function is None:
            raise GgmlUnavailableError(f"{path} has no function {name}")
        function.restype, function.argtypes = result, arguments
        functions[name.removeprefix("ggml_")] = function
    return functions


def quantise(kind: Kind, values: np.ndarray) -> np.ndarray:
    """[rows, width] float32 -> [rows, bytes of a row] uint8; quantised kinds want whole blocks."""
    rows, width = values.shape
    values = np.ascontiguousarray(values, np.float32)
    out = np.empty((rows, _ggml().row_size(kind, width)), np.uint8)
    _ggml().quantize_chunk(kind, values.ctypes.data, out.ctypes.data, 0, rows, width, None)
    return out


class Cpu:
    """ggml's CPU backend, with the constants that graphs use.

    Args:
        n_threads: of the team that computes.
        max_constants: room for that many.

    Raises:
        GgmlUnavailableError: no ggml, or another than this module knows.
    """

    def __init__(self, n_threads: int, max_constants: int) -> None:
        ggml = _ggml()
        self._borrowed: list[np.ndarray] = []
        self._owned = contextlib.ExitStack()
        self._finalizer = weakref.finalize(self, self._owned.close)
        self.backend = self.own(ggml.backend_cpu_init(), ggml.backend_free)
        ggml.backend_cpu_set_n_threads(self.backend, n_threads)
        self._context = self.context(max_constants * ggml.tensor_overhead())
        buffer_type = ggml.backend_get_default_buffer_type(self.backend)
        self.allocator = self.own(ggml.gallocr_new(buffer_type), ggml.gallocr_free)

    def close(self) -> None:
        """Free the constants and all graphs; they must not be used any more."""
        self._finalizer()

    def own(self, pointer: int, free: Callable[[int], int]) -> int:
        """Free this when closed, before what was owned earlier.

        Raises:
            MemoryError: it is null.
        """
        if not pointer:
            raise MemoryError("ggml could not allocate memory")
        self._owned.callback(free, pointer)
        return pointer

    def context(self, size: int) -> int:
        """A ggml_context for that many bytes of metadata.

        Raises:
            RuntimeError: closed already.
        """
        if not self._finalizer.alive:
            raise RuntimeError("this Cpu was closed")
        return self.own(_ggml().init(_InitParams(size, None, True)), _ggml().free)

    def constant(self, kind: Kind, data: np.ndarray) -> Tensor:
        """Copy an array.

        Args:
            kind: its type.
            data: [rows, width] or [width]; a quantised row is its bytes.
        """
        ggml, data = _ggml(), np.ascontiguousarray(data)
        tensor = self._new(kind, data)
        self.own(
            ggml.backend_alloc_ctx_tensors(self._context, self.backend), ggml.backend_buffer_free
        )
        ggml.backend_tensor_set(tensor, data.ctypes.data, 0, data.nbytes)
        return tensor

    def constant_in_place(self, kind: Kind, data: np.ndarray) -> Tensor:
        """Like `constant`, but use the array's own memory if it is laid out as ggml wants it."""
        if data.ctypes.data % ALIGNMENT or not data.flags.c_contiguous:
            return self.constant(kind, data)
        ggml, tensor = _ggml(), self._new(kind, data)
        buffer = ggml.backend_cpu_buffer_from_ptr(data.ctypes.data, data.nbytes)
        self.own(buffer, ggml.backend_buffer_free)
        self._borrowed.append(data)
        ggml.backend_tensor_alloc(buffer, tensor, data.ctypes.data)
        return tensor

    def _new(self, kind: Kind, data: np.ndarray) -> Tensor:
        rows = data.reshape(-1, data.shape[-1])
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        width = rows.shape[1] * rows.itemsize // block_bytes * block
        return Tensor(_ggml().new_tensor_2d(self._context, kind, width, len(rows)))


class Graph:
    """A computation that can be repeated with other inputs.

    Build it with the operations, name its results with `output`, then `allocate`. All graphs of a
    `Cpu` use the same memory: allocate first the one that needs most, and only then others that
    have the same operations; take outputs before another graph computes.

    Args:
        cpu: where the constants are.
        max_nodes: room for that many tensors.
    """

    def __init__(self, cpu: Cpu, max_nodes: int) -> None:
        ggml = _ggml()
        self._cpu = cpu
        size = max_nodes * ggml.tensor_overhead() + ggml.graph_overhead_custom(max_nodes, False)
        self._context = cpu.context(size)
        self._graph = ggml.new_graph_custom(self._context, max_nodes, False)

    def input(self, kind: Kind, width: int, rows: int = 1) -> Tensor:
        """A tensor to fill through `array` before every computation, which overwrites it."""
        tensor = _ggml().new_tensor_2d(self._context, kind, width, rows)
        _ggml().set_input(tensor)
        return Tensor(tensor)

    def output(self, tensor: Tensor) -> Tensor:
        """Compute this, after all earlier outputs, and keep it for `array`.

        What was reshaped is only kept if nothing else uses it.
        """
        _ggml().set_output(tensor)
        _ggml().build_forward_expand(self._graph, tensor)
        return tensor

    def allocate(self) -> None:
        """Give every tensor its place.

        Raises:
            MemoryError: there is not enough of it.
        """
        if not _ggml().gallocr_alloc_graph(self._cpu.allocator, self._graph):
            raise MemoryError("ggml could not allocate a graph")

    def array(self, tensor: Tensor, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """An input's or output's memory as an array; `shape` is NumPy's, slowest first."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = (ctypes.c_uint8 * size).from_address(_ggml().get_data(tensor))
        return np.ndarray(shape, dtype, memoryview(memory))

    def compute(self) -> None:
        """Outputs from inputs.

        Raises:
            RuntimeError: ggml failed.
        """
        status = _ggml().backend_graph_compute(self._cpu.backend, self._graph)
        if status != 0:
            raise RuntimeError(f"ggml could not compute a graph (status {status})")

    def mul_mat(self, weights: Tensor, x: Tensor) -> Tensor:
        """[k, m], [k, n] -> [m, n]."""
        return Tensor(_ggml().mul_mat(self._context, weights, x))

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        """`b` may be one row for all of `a`'s."""
        return Tensor(_ggml().add(self._context, a, b))

    def silu(self, x: Tensor) -> Tensor:
        """x / (1 + exp(-x))."""
        return Tensor(_ggml().silu(self._context, x))

    def rms_norm(self, x: Tensor, epsilon: float) -> Tensor:
        """Rows over the root of their mean square plus `epsilon`."""
        return Tensor(_ggml().rms_norm(self._context, x, epsilon))

    def soft_max(self, x: Tensor) -> Tensor:
        """Rows of probabilities."""
        return Tensor(_ggml().soft_max(self._context, x))

    def concat(self, a: Tensor, b: Tensor, dimension: int) -> Tensor:
        """`b` behind `a`."""
        return Tensor(_ggml().concat(self._context, a, b, dimension))

    def top_k(self, x: Tensor, k: int) -> Tensor:
        """[n, rows] -> [k, rows] int32, places of the largest k in no particular order."""
        return Tensor(_ggml().top_k(self._context, x, k))

    def argmax(self, x: Tensor) -> Tensor:
        """[n, rows] -> [rows] int32, the place of each row's largest value."""
        return Tensor(_ggml().argmax(self._context, x))

    def get_rows(self, table: Tensor, ids: Tensor) -> Tensor:
        """[width, n], [rows] int32 -> [width, rows], float32 unless the table is int32."""
        return Tensor(_ggml().get_rows(self._context, table, ids))

    def pick(self, x: Tensor, ids: Tensor, n: int, rows: int) -> Tensor:
        """Values of each row. [n, rows], [k, rows] int32 -> [1, k, rows]."""
        values = _ggml().reshape_3d(self._context, x, 1, n, rows)
        return Tensor(_ggml().get_rows(self._context, values, ids))

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        """The same values as one or two dimensions."""
        reshape = _ggml().reshape_1d if len(shape) == 1 else _ggml().reshape_2d
        return Tensor(reshape(self._context, x, *shape))
