import numpy as np
import pytest

from medusa.llama.gguf_files import Kind
from medusa.llama.graph import Cpu, Graph, Tensor


def product(cpu: Cpu, weights: Tensor, columns: int) -> Graph:
    graph = Graph(cpu, 8)
    graph.output(graph.mul_mat(weights, graph.input(Kind.F32, 64, columns)))
    return graph


def test_a_later_graph_that_needs_more_is_refused() -> None:
    cpu = Cpu(1, 4)
    data = np.ones((64, 64), np.float32)
    weights = cpu.constant(Kind.F32, data)
    graphs = [product(cpu, weights, columns) for columns in (4, 2, 4000)]
    graphs[0].allocate()
    graphs[1].allocate()
    with pytest.raises(RuntimeError, match="more memory than the first"):
        graphs[2].allocate()
