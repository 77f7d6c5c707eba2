"""Just enough of ggml's C API to compute one matrix product or one attention outside of a model.

The self-test, the tests and the benchmark use it to run the same operation with our kernels and
with the stock ones, through the very call path (graph plan, thread team, operation) of a model.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


class Type(enum.IntEnum):
    """ggml's tensor types that matter here."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14


QUANTISED = tuple(t for t in Type if t >= Type.Q4_0)


class _InitParams(ctypes.Structure):
    _fields_ = [
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    ]


class Ggml:
    """The ggml libraries in one folder, loaded."""

    def __init__(self, folder: Path) -> None:
        self.base = ctypes.CDLL(str(folder / "libggml-base.so.0"))
        self.cpu = ctypes.CDLL(str(folder / "libggml-cpu.so.0"))
        pointer, i64, size = ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t

        def declare(lib: ctypes.CDLL, name: str, result: object, *args: object) -> None:
            function = getattr(lib, name)
            function.restype = result
            function.argtypes = args

        declare(self.base, "ggml_init", pointer, _InitParams)
        declare(self.base, "ggml_free", None, pointer)
        declare(self.base, "ggml_get_data", pointer, pointer)
        declare(self.base, "ggml_row_size", size, ctypes.c_int, i64)
        declare(self.base, "ggml_new_tensor_4d", pointer, pointer, ctypes.c_int, i64, i64, i64, i64)
        declare(self.base, "ggml_mul_mat", pointer, pointer, pointer, pointer)
        floats = (ctypes.c_float,) * 3
        declare(self.base, "ggml_flash_attn_ext", pointer, *(pointer,) * 5, *floats)
        declare(self.base, "ggml_new_graph", pointer, pointer)
        declare(self.base, "ggml_build_forward_expand", None, pointer, pointer)
        quantise_args = (ctypes.c_int, pointer, pointer, i64, i64, i64, pointer)
        declare(self.base, "ggml_quantize_chunk", size, *quantise_args)
        declare(self.base, "ggml_get_type_traits", pointer, ctypes.c_int)
        declare(self.cpu, "ggml_cpu_init", None)
        compute_args = (pointer, pointer, ctypes.c_int)
        declare(self.cpu, "ggml_graph_compute_with_ctx", ctypes.c_int, *compute_args)
        self.cpu.ggml_cpu_init()

    def quantise(self, kind: Type, weights: FloatArray) -> npt.NDArray[np.uint8]:
        """weights: [rows, k] -> [rows, bytes per row]."""
        rows, k = weights.shape
        weights = np.ascontiguousarray(weights, dtype=np.float32)
        out = np.empty((rows, self.base.ggml_row_size(kind, k)), dtype=np.uint8)
        self.base.ggml_quantize_chunk(kind, weights.ctypes.data, out.ctypes.data, 0, rows, k, None)
        return out

    def mul_mat(
        self, kind: Type, weights: npt.NDArray[np.uint8], x: FloatArray, threads: int
    ) -> FloatArray:
        """weights: [m, bytes per row], x: [n, k] -> [n, m]."""
        n, k = x.shape
        with _Context(self, weights.nbytes + x.nbytes + 40 * n * k + 8 * n * len(weights)) as ctx:
            w = ctx.tensor(kind, (k, len(weights)), weights)
            out = self.base.ggml_mul_mat(ctx.pointer, w, ctx.tensor(Type.F32, (k, n), x))
            return ctx.compute(out, (n, len(weights)), threads)

    @contextlib.contextmanager
    def repeated_mul_mat(
        self, kind: Type, weights: npt.NDArray[np.uint8], x: FloatArray, matrices: int
    ) -> Iterator[Callable[[int], None]]:
        """A function that computes x times several copies of weights with that many threads.

        It keeps a work buffer for every call, so call it a few hundred times at most.
        """
        n, k = x.shape
        size = matrices * (weights.nbytes + 4 * n * len(weights)) + x.nbytes + 256 * (100 * n * k)
        with _Context(self, size) as ctx:
            columns = ctx.tensor(Type.F32, (k, n), x)
            graph = self.base.ggml_new_graph(ctx.pointer)
            for _ in range(matrices):
                w = ctx.tensor(kind, (k, len(weights)), weights)
                out = self.base.ggml_mul_mat(ctx.pointer, w, columns)
                self.base.ggml_build_forward_expand(graph, out)
            yield lambda threads: ctx.run(graph, threads)

    def attention(
        self,
        q: FloatArray,
        k: npt.NDArray[np.float16],
        v: npt.NDArray[np.float16],
        mask: npt.NDArray[np.float16],
        scale: float,
        threads: int,
    ) -> FloatArray:
        """Shapes: q [heads, n, dim], k, v [kv_heads, cells, dim], mask [n, cells].

        Returns:
            [n, heads, dim].
        """
        heads, n, dim = q.shape
        kv_heads, cells, _ = k.shape
        work = 16 * heads * (n + 16) * (dim + 16) * threads + 64 * cells * (n + 64)
        with _Context(self, q.nbytes + k.nbytes + v.nbytes + mask.nbytes + 8 * work) as ctx:
            args = (
                ctx.tensor(Type.F32, (dim, n, heads), q),
                ctx.tensor(Type.F16, (dim, cells, kv_heads), k),
                ctx.tensor(Type.F16, (dim, cells, kv_heads), v),
                ctx.tensor(Type.F16, (cells, n), mask),
            )
            out = self.base.ggml_flash_attn_ext(ctx.pointer, *args, scale, 0.0, 0.0)
            return ctx.compute(out, (n, heads, dim), threads)


class _Context:
    """A ggml memory pool for one operation."""

    def __init__(self, ggml: Ggml, size: int) -> None:
        self._ggml = ggml
        self.pointer: int = ggml.base.ggml_init(_InitParams(size + (8 << 20), None, False))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ggml.base.ggml_free(self.pointer)

    def tensor(self, kind: Type, shape: tuple[int, ...], data: npt.NDArray[np.generic]) -> int:
        """shape in ggml's order, fastest first."""
        dims = (*shape, 1, 1, 1)[:4]
        tensor: int = self._ggml.base.ggml_new_tensor_4d(self.pointer, kind, *dims)
        data = np.ascontiguousarray(data)
        ctypes.memmove(self._ggml.base.ggml_get_data(tensor), data.ctypes.data, data.nbytes)
        return tensor

    def compute(self, result: int, shape: tuple[int, ...], threads: int) -> FloatArray:
        graph = self._ggml.base.ggml_new_graph(self.pointer)
        self._ggml.base.ggml_build_forward_expand(graph, result)
        self.run(graph, threads)
        address = self._ggml.base.ggml_get_data(result)
        values = ctypes.cast(address, ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(values, shape=shape).copy()

    def run(self, graph: int, threads: int) -> None:
        if self._ggml.cpu.ggml_graph_compute_with_ctx(self.pointer, graph, threads) != 0:
            raise RuntimeError("ggml could not compute the graph")
