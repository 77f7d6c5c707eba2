"""Small computations on ggml's CPU backend.

A `Cpu` holds constants and a team of threads, a `Graph` what is computed from them. Matrix products
and attention go through our kernels where `runtime.load` has put those in place, as a model's do.

Shapes are ggml's here: the fastest dimension first, so that a [rows, width] array is [width, rows].
ggml aborts the process where shapes or types do not fit.
"""

import contextlib
import ctypes
import math
import weakref
from collections.abc import Callable
from typing import NewType

import numpy as np

from medusa.llama.ggml import ALIGNMENT, InitParams, functions
from medusa.llama.gguf_files import Kind, row_width

Tensor = NewType("Tensor", int)
"""A ggml_tensor's address."""


def _new_tensor(context: int, kind: Kind, shape: tuple[int, ...]) -> Tensor:
    dimensions = (*shape, 1, 1, 1)[:4]
    return Tensor(functions().new_tensor_4d(context, kind, *dimensions))


class Cpu:
    """ggml's CPU backend, with the constants that graphs use.

    Args:
        n_threads: of the team that computes.
        max_constants: room for that many.

    Raises:
        GgmlUnavailableError: no ggml, or another than this module knows.
    """

    def __init__(self, n_threads: int, max_constants: int) -> None:
        ggml = functions()
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

    def own(self, pointer: int, free: Callable[[int], object]) -> int:
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
        return self.own(functions().init(InitParams(size, None, True)), functions().free)

    def constant(self, kind: Kind, data: np.ndarray) -> Tensor:
        """Copy an array.

        Args:
            kind: its type.
            data: [..., rows, width], up to four dimensions; a quantised row is its bytes.
        """
        ggml, data = functions(), np.ascontiguousarray(data)
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
        ggml, tensor = functions(), self._new(kind, data)
        buffer = ggml.backend_cpu_buffer_from_ptr(data.ctypes.data, data.nbytes)
        self.own(buffer, ggml.backend_buffer_free)
        self._borrowed.append(data)
        ggml.backend_tensor_alloc(buffer, tensor, data.ctypes.data)
        return tensor

    def _new(self, kind: Kind, data: np.ndarray) -> Tensor:
        shape = (*data.shape[:-1], row_width(kind, data))
        return _new_tensor(self._context, kind, shape[::-1])


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
        ggml = functions()
        self._cpu = cpu
        size = max_nodes * ggml.tensor_overhead() + ggml.graph_overhead_custom(max_nodes, False)
        self._context = cpu.context(size)
        self._graph = ggml.new_graph_custom(self._context, max_nodes, False)

    def input(self, kind: Kind, *shape: int) -> Tensor:
        """A tensor to fill through `array` before every computation, which overwrites it."""
        tensor = _new_tensor(self._context, kind, shape)
        functions().set_input(tensor)
        return tensor

    def output(self, tensor: Tensor) -> Tensor:
        """Compute this, after all earlier outputs, and keep it for `array`.

        What was reshaped is only kept if nothing else uses it.
        """
        functions().set_output(tensor)
        functions().build_forward_expand(self._graph, tensor)
        return tensor

    def allocate(self) -> None:
        """Give every tensor its place.

        Raises:
            MemoryError: there is not enough of it.
            RuntimeError: an earlier graph had less; its arrays would point to memory that is gone.
        """
        ggml, allocator = functions(), self._cpu.allocator
        before = ggml.gallocr_get_buffer_size(allocator, 0)
        if not ggml.gallocr_alloc_graph(allocator, self._graph):
            raise MemoryError("ggml could not allocate a graph")
        if 0 < before < ggml.gallocr_get_buffer_size(allocator, 0):
            raise RuntimeError("a graph needs more memory than the first one")

    def array(self, tensor: Tensor, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """An input's or output's memory as an array; `shape` is NumPy's, slowest first."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = (ctypes.c_uint8 * size).from_address(functions().get_data(tensor))
        return np.ndarray(shape, dtype, memoryview(memory))

    def compute(self) -> None:
        """Outputs from inputs.

        Raises:
            RuntimeError: ggml failed.
        """
        status = functions().backend_graph_compute(self._cpu.backend, self._graph)
        if status != 0:
            raise RuntimeError(f"ggml could not compute a graph (status {status})")

    def mul_mat(self, weights: Tensor, x: Tensor) -> Tensor:
        """[k, m], [k, n] -> [m, n], for each of a batch in further dimensions."""
        return Tensor(functions().mul_mat(self._context, weights, x))

    def mul_mat_id(self, weights: Tensor, x: Tensor, ids: Tensor) -> Tensor:
        """Each token with experts of its own.

        [k, m, experts], [k, used or 1, tokens], [used, tokens] int32 -> [m, used, tokens].
        """
        return Tensor(functions().mul_mat_id(self._context, weights, x, ids))

    def swap(self, x: Tensor) -> Tensor:
        """[width, a, b] -> [width, b, a], a view."""
        return Tensor(functions().permute(self._context, x, 0, 2, 1, 3))

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        """`b` may be one row for all of `a`'s."""
        return Tensor(functions().add(self._context, a, b))

    def silu(self, x: Tensor) -> Tensor:
        """x / (1 + exp(-x))."""
        return Tensor(functions().silu(self._context, x))

    def rms_norm(self, x: Tensor, epsilon: float) -> Tensor:
        """Rows over the root of their mean square plus `epsilon`."""
        return Tensor(functions().rms_norm(self._context, x, epsilon))

    def soft_max(self, x: Tensor) -> Tensor:
        """Rows of probabilities."""
        return Tensor(functions().soft_max(self._context, x))

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor,
        scale: float,
        *,
        soft_cap: float = 0.0,
        max_bias: float = 0.0,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Flash attention: softmax(scale k q + mask) v for each head.

        [key size, n, heads], [key size, cells, kv_heads], [value size, cells, kv_heads] of a
        cache's types, [cells, n] f16 -> [value size, heads, n].

        Args:
            soft_cap: c tanh(scale k q / c) instead of scale k q, unless 0.
            max_bias: of ALiBi, which multiplies the mask by a slope for each head, unless 0.
            sinks: [heads], scores that join each softmax with a value of 0.
        """
        inputs = (self._context, q, k, v, mask)
        out = Tensor(functions().flash_attn_ext(*inputs, scale, max_bias, soft_cap))
        if sinks is not None:
            functions().flash_attn_ext_add_sinks(out, sinks)
        return out

    def concat(self, a: Tensor, b: Tensor, dimension: int) -> Tensor:
        """`b` behind `a`."""
        return Tensor(functions().concat(self._context, a, b, dimension))

    def top_k(self, x: Tensor, k: int) -> Tensor:
        """[n, rows] -> [k, rows] int32, places of the largest k in no particular order."""
        return Tensor(functions().top_k(self._context, x, k))

    def argmax(self, x: Tensor) -> Tensor:
        """[n, rows] -> [rows] int32, the place of each row's largest value."""
        return Tensor(functions().argmax(self._context, x))

    def get_rows(self, table: Tensor, ids: Tensor) -> Tensor:
        """[width, n], [rows] int32 -> [width, rows], float32 unless the table is int32."""
        return Tensor(functions().get_rows(self._context, table, ids))

    def pick(self, x: Tensor, ids: Tensor, n: int, rows: int) -> Tensor:
        """Values of each row. [n, rows], [k, rows] int32 -> [1, k, rows]."""
        values = functions().reshape_3d(self._context, x, 1, n, rows)
        return Tensor(functions().get_rows(self._context, values, ids))

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        """The same values as one or two dimensions."""
        reshape = functions().reshape_1d if len(shape) == 1 else functions().reshape_2d
        return Tensor(reshape(self._context, x, *shape))
