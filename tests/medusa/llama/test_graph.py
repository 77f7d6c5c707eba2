import numpy as np
import pytest

from medusa.llama import ggml, runtime
from medusa.llama.backend import Backend, Cpu, DeviceBackend, Tensor, UnfitError
from medusa.llama.gguf_files import Kind
from medusa.llama.graph import Graph


def product(backend: Backend, weights: Tensor, columns: int) -> Graph:
    graph = Graph(backend, 8)
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


def device() -> DeviceBackend:
    """The processor, treated like any other device."""
    runtime.load()
    return DeviceBackend("CPU", 4)


def test_a_device_computes_what_the_processor_does() -> None:
    """Inputs are sent and outputs fetched at each computation, whatever others do in between."""
    weights, x = np.random.default_rng(0).standard_normal((2, 64, 64), np.float32)
    results = []
    for backend in (Cpu(1, 4), device()):
        graph = Graph(backend, 8)
        columns = graph.input(Kind.F32, 64, 64)
        product = graph.output(graph.mul_mat(backend.constant(Kind.F32, weights), columns))
        best = graph.output(graph.argmax(product))
        graph.allocate()
        sent, fetched = (graph.array(t, (64, 64), np.float32) for t in (columns, product))
        places = graph.array(best, (64,), np.int32)
        for sign in (1, -1):
            sent[:] = sign * x
            graph.compute()
            np.testing.assert_allclose(fetched, sign * x @ weights.T, atol=1e-4)
            np.testing.assert_array_equal(places, fetched.argmax(axis=1))
            np.testing.assert_array_equal(graph.read(product, (64, 64), np.float32), fetched)
        results.append(fetched.copy())
    np.testing.assert_array_equal(results[0], results[1])


def test_a_device_tells_its_memory() -> None:
    backend = device()
    before = backend.n_bytes
    weights = backend.constant(Kind.F32, np.ones((64, 64), np.float32))
    backend.constant_in_place(Kind.F32, np.ones((2, 64), np.float32))
    assert backend.n_bytes - before == 4 * 66 * 64
    product(backend, weights, 4).allocate()
    assert backend.n_bytes - before > 4 * (66 * 64 + 2 * 4 * 64 - 1)
    free = backend.free_bytes
    assert free is not None
    assert free > 0


def test_a_device_that_is_not_there_is_refused() -> None:
    runtime.load()
    with pytest.raises(UnfitError, match="no device CUDA77"):
        DeviceBackend("CUDA77", 4)


def test_what_a_device_cannot_compute_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """ggml would abort the process."""
    backend = device()
    graph = product(backend, backend.constant(Kind.F32, np.ones((64, 64), np.float32)), 4)
    monkeypatch.setattr(ggml.functions(), "backend_supports_op", lambda _backend, _node: False)
    with pytest.raises(UnfitError, match="CPU cannot compute MUL_MAT"):
        graph.allocate()
