"""One matrix product or one attention outside of a model.

The self-test, the tests and the benchmark use these to run an operation with our kernels and with
the stock ones, through the very call path (graph plan, thread team, operation) of a model.
"""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from medusa.llama.gguf_files import Kind
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


def attention(
    q: FloatArray, k: HalfArray, v: HalfArray, mask: HalfArray, scale: float, threads: int
) -> FloatArray:
    """Shapes: q [heads, n, dim], k, v [kv_heads, cells, dim], mask [n, cells].

    Returns:
        [n, heads, dim].
    """
    heads, n, dim = q.shape
    with contextlib.closing(Cpu(threads, max_constants=4)) as cpu:
        graph = Graph(cpu, max_nodes=5)
        keys, values, masks = (cpu.constant(Kind.F16, data) for data in (k, v, mask))
        out = graph.attention(cpu.constant(Kind.F32, q), keys, values, masks, scale)
        return _computed(graph, out, (n, heads, dim))


def _computed(graph: Graph, result: Tensor, shape: tuple[int, ...]) -> FloatArray:
    graph.output(result)
    graph.allocate()
    graph.compute()
    return graph.array(result, shape, np.float32).copy()
