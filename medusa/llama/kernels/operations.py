"""One matrix product or one attention outside of a model.

The self-test, the tests and the benchmark use these to run an operation with our kernels and with
the stock ones, through the very call path (graph plan, thread team, operation) of a model.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medusa.llama import ggml
from medusa.llama.gguf_files import Kind, row_width
from medusa.llama.graph import Cpu, Graph, Tensor

FloatArray = npt.NDArray[np.float32]
HalfArray = npt.NDArray[np.float16]

QUANTISED = (
    Kind.Q4_0,
    Kind.Q4_1,
    Kind.Q5_0,
    Kind.Q5_1,
    Kind.Q8_0,
    Kind.Q4_K,
    Kind.Q5_K,
    Kind.Q6_K,
)
"""The formats of weights that our products know."""


def mul_mat(kind: Kind, weights: npt.NDArray[np.uint8], x: FloatArray, threads: int) -> FloatArray:
    """weights: [m, bytes per row], x: [n, k] -> [n, m]."""
    with contextlib.closing(Cpu(threads, max_constants=2)) as cpu:
        graph = Graph(cpu, max_nodes=3)
        out = graph.mul_mat(cpu.constant(kind, weights), cpu.constant(Kind.F32, x))
        return _computed(graph, out, (len(x), len(weights)))


@contextlib.contextmanager
def repeated_mul_mat(
    kind: Kind, weights: npt.NDArray[np.uint8], x: FloatArray, matrices: int, threads: int
) -> Iterator[Callable[[], None]]:
    """A function that computes x times several copies of weights; shapes as in `mul_mat`."""
    with contextlib.closing(Cpu(threads, max_constants=matrices + 1)) as cpu:
        graph = Graph(cpu, max_nodes=2 * matrices + 1)
        columns = cpu.constant(Kind.F32, x)
        for _ in range(matrices):
            graph.output(graph.mul_mat(cpu.constant(kind, weights), columns))
        graph.allocate()
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
