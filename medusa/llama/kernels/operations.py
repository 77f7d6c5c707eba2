"""One matrix product or one attention outside of a model.

The self-test, the tests and the benchmark use these to run an operation with our kernels and with
the stock ones, through the very call path (graph plan, thread team, operation) of a model.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medusa.llama import ggml
from medusa.llama.backend import Cpu, Tensor
from medusa.llama.gguf_files import Kind, row_width
from medusa.llama.graph import Graph

from .library import Library

FloatArray = npt.NDArray[np.float32]
HalfArray = npt.NDArray[np.float16]

IntArray = npt.NDArray[np.int32]
Weights = npt.NDArray[np.uint8]
"""Rows as their bytes, whatever they stand for."""

QUANTISED = (
    Kind.Q4_0,
    Kind.Q4_1,
    Kind.Q5_0,
    Kind.Q5_1,
    Kind.Q8_0,
    Kind.Q3_K,
    Kind.Q4_K,
    Kind.Q5_K,
    Kind.Q6_K,
    Kind.IQ4_NL,
    Kind.IQ4_XS,
    Kind.MXFP4,
)
"""The formats of weights that our integer products know."""

FLOATS = (Kind.F32, Kind.F16, Kind.BF16)


def mul_mat(kind: Kind, weights: Weights, x: FloatArray, threads: int) -> FloatArray:
    """weights: [..., m, row], x: [..., n, k] -> [..., n, m]; x may have a larger batch."""
    with contextlib.closing(Cpu(threads, max_constants=2)) as cpu:
        graph = Graph(cpu, max_nodes=3)
        out = graph.mul_mat(cpu.constant(kind, weights), cpu.constant(Kind.F32, x))
        return _computed(graph, out, (*x.shape[:-1], weights.shape[-2]))


@contextlib.contextmanager
def packing(library: Library | None, cpu: Cpu, tensors: Iterable[Tensor]) -> Iterator[None]:
    """Products of these constants use packed copies meanwhile, where our kernels do; None: no."""
    if library is None:
        yield
        return
    for tensor in tensors:
        library.register_tensor(cpu.address, tensor)
    try:
        yield
    finally:
        library.forget(cpu.address)


def mul_mats(
    weights: Mapping[Kind, Weights], x: FloatArray, threads: int, pack: Library | None = None
) -> list[FloatArray]:
    """Several products of the same columns at once; shapes as in `mul_mat`."""
    with contextlib.closing(Cpu(threads, max_constants=len(weights) + 1)) as cpu:
        graph = Graph(cpu, max_nodes=2 * len(weights) + 1)
        columns = cpu.constant(Kind.F32, x)
        constants = [cpu.constant(kind, rows) for kind, rows in weights.items()]
        outputs = [graph.output(graph.mul_mat(constant, columns)) for constant in constants]
        graph.allocate()
        with packing(pack, cpu, constants):
            graph.compute()
        shapes = [(len(x), len(rows)) for rows in weights.values()]
        return [
            graph.array(out, shape, np.float32).copy()
            for out, shape in zip(outputs, shapes, strict=True)
        ]


def mul_mat_swapped(kind: Kind, weights: Weights, x: FloatArray, threads: int) -> FloatArray:
    """weights: [b, m, row], x: [n, b, k], read with the first two swapped -> [b, n, m]."""
    with contextlib.closing(Cpu(threads, max_constants=2)) as cpu:
        graph = Graph(cpu, max_nodes=4)
        columns = graph.swap(cpu.constant(Kind.F32, x))
        out = graph.mul_mat(cpu.constant(kind, weights), columns)
        return _computed(graph, out, (x.shape[1], x.shape[0], weights.shape[-2]))


def mul_mat_id(
    kind: Kind, weights: Weights, x: FloatArray, ids: IntArray, threads: int
) -> FloatArray:
    """weights: [experts, m, row], x: [tokens, used or 1, k], ids: [tokens, used].

    Returns:
        [tokens, used, m].
    """
    with contextlib.closing(Cpu(threads, max_constants=3)) as cpu:
        graph = Graph(cpu, max_nodes=4)
        constants = cpu.constant(kind, weights), cpu.constant(Kind.F32, x)
        out = graph.mul_mat_id(*constants, cpu.constant(Kind.I32, ids))
        return _computed(graph, out, (*ids.shape, weights.shape[-2]))


@contextlib.contextmanager
def repeated_mul_mat(
    kind: Kind,
    weights: Weights,
    x: FloatArray,
    matrices: int,
    threads: int,
    pack: Library | None = None,
) -> Iterator[Callable[[], None]]:
    """A function that computes x times several copies of weights; shapes as in `mul_mat`."""
    with contextlib.closing(Cpu(threads, max_constants=matrices + 1)) as cpu:
        graph = Graph(cpu, max_nodes=2 * matrices + 1)
        columns = cpu.constant(Kind.F32, x)
        constants = [cpu.constant(kind, weights) for _ in range(matrices)]
        for constant in constants:
            graph.output(graph.mul_mat(constant, columns))
        graph.allocate()
        with packing(pack, cpu, constants):
            yield graph.compute


@dataclass(frozen=True)
class Attention:
    """What one attention is computed from; `Graph.attention` says what the numbers mean."""

    q: FloatArray  # [heads, n, key size]
    k: np.ndarray  # [kv_heads, cells, key size] float16, or the bytes of quantised rows
    v: np.ndarray  # [kv_heads, cells, value size], as k
    mask: HalfArray  # [n, cells]
    scale: float
    kind: Kind = Kind.F16  # of k and v
    soft_cap: float = 0.0
    max_bias: float = 0.0
    sinks: FloatArray | None = None  # [heads]


def cache_rows(kind: Kind, values: FloatArray) -> np.ndarray:
    """What a cache of that kind stores of [kv_heads, cells, size], as in `Attention`."""
    if kind == Kind.F16:
        return values.astype(np.float16)
    heads, cells, size = values.shape
    return ggml.quantise(kind, values.reshape(-1, size)).reshape(heads, cells, -1)


def attention(a: Attention, threads: int) -> FloatArray:
    """softmax(q k + mask) v as [n, heads, value size]."""
    heads, n, _ = a.q.shape
    with contextlib.closing(Cpu(threads, max_constants=5)) as cpu:
        graph = Graph(cpu, max_nodes=6)
        k, v = (cpu.constant(a.kind, data) for data in (a.k, a.v))
        out = graph.attention(
            cpu.constant(Kind.F32, a.q),
            k,
            v,
            cpu.constant(Kind.F16, a.mask),
            a.scale,
            soft_cap=a.soft_cap,
            max_bias=a.max_bias,
            sinks=None if a.sinks is None else cpu.constant(Kind.F32, a.sinks),
        )
        return _computed(graph, out, (n, heads, row_width(a.kind, a.v)))


def _computed(graph: Graph, result: Tensor, shape: tuple[int, ...]) -> FloatArray:
    graph.output(result)
    graph.allocate()
    graph.compute()
    return graph.array(result, shape, np.float32).copy()
