"""Small computations on a backend of ggml's.

On the CPU, matrix products and attention go through our kernels where `runtime.load` has put those
in place, as a model's do.

Shapes are ggml's here: the fastest dimension first, so that a [rows, width] array is [width, rows].
ggml aborts the process where shapes or types do not fit.
"""

import ctypes
import math
from dataclasses import dataclass

import numpy as np

from medusa.llama.backend import Backend, Tensor, UnfitError, new_tensor
from medusa.llama.ggml import functions
from medusa.llama.gguf_files import Kind


@dataclass(frozen=True)
class _Copy:
    """A device's tensor and its values in the process's memory."""

    array: np.ndarray
    arguments: tuple[Tensor, int, int, int]
    """Of ggml_backend_tensor_set_async and _get_async: tensor, address, offset, bytes."""


class Graph:
    """A computation that can be repeated with other inputs.

    Build it with the operations, name its results with `output`, then `allocate`. All graphs of a
    backend use the same memory: allocate first the one that needs most, and only then others that
    have the same operations; take outputs before another graph computes.

    Args:
        backend: what computes, and where the constants are.
        max_nodes: room for that many tensors.
    """

    def __init__(self, backend: Backend, max_nodes: int) -> None:
        ggml = functions()
        self._backend = backend
        size = max_nodes * ggml.tensor_overhead() + ggml.graph_overhead_custom(max_nodes, False)
        self._context = backend.context(size)
        self._graph = ggml.new_graph_custom(self._context, max_nodes, False)
        self._inputs: set[Tensor] = set()
        self._sent: list[_Copy] = []  # to the device, before it computes
        self._fetched: list[_Copy] = []  # from there, afterwards

    def input(self, kind: Kind, *shape: int) -> Tensor:
        """A tensor to fill through `array` before every computation, which overwrites it."""
        tensor = new_tensor(self._context, kind, shape)
        functions().set_input(tensor)
        self._inputs.add(tensor)
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
            UnfitError: the backend cannot compute this; names the operations.
            MemoryError: there is not enough of it.
            RuntimeError: an earlier graph had less; its arrays would point to memory that is gone.
        """
        ggml, allocator = functions(), self._backend.allocator
        unfit = self._unfit_operations()
        if unfit:
            raise UnfitError(f"{self._backend.name} cannot compute {', '.join(unfit)}")
        before = ggml.gallocr_get_buffer_size(allocator, 0)
        if not ggml.gallocr_alloc_graph(allocator, self._graph):
            raise MemoryError("ggml could not allocate a graph")
        if 0 < before < ggml.gallocr_get_buffer_size(allocator, 0):
            raise RuntimeError("a graph needs more memory than the first one")

    def _unfit_operations(self) -> list[str]:
        ggml, backend = functions(), self._backend.address
        nodes = (ggml.graph_node(self._graph, i) for i in range(ggml.graph_n_nodes(self._graph)))
        unfit = (node for node in nodes if not ggml.backend_supports_op(backend, node))
        return sorted({ggml.op_desc(node).decode() for node in unfit})

    def array(self, tensor: Tensor, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """An input's or output's values as an array; `shape` is NumPy's, slowest first.

        It is the tensor's own memory or, if that is a device's, a copy that `compute` sends there
        or fetches.
        """
        if not self._backend.in_host_memory:
            array: np.ndarray = np.zeros(shape, dtype)
            copies = self._sent if tensor in self._inputs else self._fetched
            copies.append(_Copy(array, (tensor, array.ctypes.data, 0, array.nbytes)))
            return array
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = (ctypes.c_uint8 * size).from_address(functions().get_data(tensor))
        return np.ndarray(shape, dtype, memoryview(memory))

    def read(self, tensor: Tensor, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """A copy of what an output holds now, for one that is not wanted each time."""
        array: np.ndarray = np.empty(shape, dtype)
        functions().backend_tensor_get(tensor, array.ctypes.data, 0, array.nbytes)
        return array

    def compute(self) -> None:
        """Outputs from inputs; when it returns they are there.

        Raises:
            RuntimeError: ggml failed.
        """
        ggml, backend = functions(), self._backend.address
        for copy in self._sent:
            ggml.backend_tensor_set_async(backend, *copy.arguments)
        status = ggml.backend_graph_compute_async(backend, self._graph)
        for copy in self._fetched:
            ggml.backend_tensor_get_async(backend, *copy.arguments)
        ggml.backend_synchronize(backend)
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
