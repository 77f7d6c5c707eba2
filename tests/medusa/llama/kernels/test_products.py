"""Products of floats, other types, batches and experts: right, and each column is alone."""

from __future__ import annotations

import contextlib

import gguf
import numpy as np
import pytest

from medusa.llama import ggml
from medusa.llama.backend import Cpu
from medusa.llama.gguf_files import Kind, block_size
from medusa.llama.graph import Graph
from medusa.llama.kernels import operations
from medusa.llama.kernels.library import Library
from medusa.llama.kernels.operations import FLOATS, QUANTISED, FloatArray, IntArray, Weights

from . import reference

DOTTED = (Kind.Q2_K, Kind.IQ3_S, Kind.TQ2_0)
"""Some formats that go through ggml's own dot product."""

SOME = (*FLOATS, Kind.Q4_0, Kind.Q6_K, Kind.MXFP4, *DOTTED)


def _random(*shape: int) -> FloatArray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def _weights(kind: Kind, *shape: int) -> Weights:
    rows = ggml.quantise(kind, _random(*shape).reshape(-1, shape[-1]))
    return rows.reshape(*shape[:-1], -1)


def _dense(kind: Kind, weights: Weights) -> reference.Float64Array:
    return gguf.dequantize(weights, kind).astype(np.float64)


@pytest.mark.parametrize("kind", FLOATS, ids=lambda t: t.name)
@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 1, 1), (3, 2, 7), (16, 5, 64), (33, 13, 333), (70, 70, 1536)]
)
def test_floats_match_a_double_precision_reference(
    library: Library, isa: str, kind: Kind, m: int, n: int, k: int
) -> None:
    weights, x = _weights(kind, m, k), _random(n, k)
    before = library.mat_mul_calls
    for threads in (1, 2, 3):
        ours = operations.mul_mat(kind, weights, x, threads)
        dense = _dense(kind, weights)
        magnitude = np.abs(x.astype(np.float64)) @ np.abs(dense).T
        assert (np.abs(ours - x.astype(np.float64) @ dense.T) / magnitude).max() < 1e-6
    assert library.mat_mul_calls == before + 3


@pytest.mark.parametrize("kind", SOME, ids=lambda t: t.name)
@pytest.mark.parametrize("m", [5, 80])
def test_a_column_does_not_depend_on_batch_or_threads(isa: str, kind: Kind, m: int) -> None:
    weights, x = _weights(kind, m, 768), _random(40, 768)
    whole = operations.mul_mat(kind, weights, x, 1)
    for threads in (2, 3):
        assert np.array_equal(whole, operations.mul_mat(kind, weights, x, threads))
    for n in (1, 2, 3, 5, 8, 13):
        for first in (0, 40 - n):
            part = operations.mul_mat(kind, weights, x[first : first + n], 2)
            assert np.array_equal(part, whole[first : first + n])


@pytest.mark.parametrize("kind", DOTTED, ids=lambda t: t.name)
def test_other_types_are_right(library: Library, isa: str, kind: Kind) -> None:
    weights, x = _weights(kind, 24, 512), _random(9, 512)
    before = library.mat_mul_calls
    ours = operations.mul_mat(kind, weights, x, 2)
    assert library.mat_mul_calls == before + 1
    exact = x @ _dense(kind, weights).T
    assert np.abs(ours - exact).max() < 0.05 * exact.std()


@pytest.mark.parametrize("kind", QUANTISED, ids=lambda t: t.name)
def test_few_rows_are_right(isa: str, kind: Kind) -> None:
    weights, x = _weights(kind, 3, 512), _random(2, 512)
    exact = x @ _dense(kind, weights).T
    ours = operations.mul_mat(kind, weights, x, 2)
    assert np.abs(ours - exact).max() < 0.05 * exact.std()


@pytest.mark.parametrize("kind", QUANTISED, ids=lambda t: t.name)
@pytest.mark.parametrize("k", [32, 96, 224])
def test_odd_numbers_of_blocks(isa: str, kind: Kind, k: int) -> None:
    if k % block_size(kind):
        pytest.skip("rows are whole blocks")
    weights, x = _weights(kind, 41, k), _random(5, k)
    quantised, dense = reference.quantise_activations(x), _dense(kind, weights)
    error = np.abs(operations.mul_mat(kind, weights, x, 2) - quantised @ dense.T)
    assert (error / (np.abs(quantised) @ np.abs(dense).T)).max() < 1e-6


@pytest.mark.parametrize("kind", SOME, ids=lambda t: t.name)
def test_each_matrix_of_a_batch_is_a_product_of_its_own(isa: str, kind: Kind) -> None:
    weights, x = _weights(kind, 2, 3, 48, 256), _random(2, 6, 5, 256)
    batch = operations.mul_mat(kind, weights, x, 3)
    for i in range(2):
        for j in range(6):
            alone = operations.mul_mat(kind, weights[i, j // 2], x[i, j, 2:3], 1)
            assert np.array_equal(batch[i, j, 2:3], alone)


@pytest.mark.parametrize("kind", SOME, ids=lambda t: t.name)
def test_columns_may_lie_anywhere(isa: str, kind: Kind) -> None:
    weights, x = _weights(kind, 4, 32, 256), _random(7, 4, 256)
    swapped = operations.mul_mat_swapped(kind, weights, x, 2)
    in_order = operations.mul_mat(kind, weights, np.ascontiguousarray(x.swapaxes(0, 1)), 2)
    assert np.array_equal(swapped, in_order)
    one = operations.mul_mat_swapped(kind, weights[:1], x, 2)  # a single matrix for all
    assert np.array_equal(one[3], operations.mul_mat(kind, weights[0], x[:, 3].copy(), 1))


def _ids(tokens: int, used: int, experts: int) -> IntArray:
    rng = np.random.default_rng(tokens)
    return np.array([rng.permutation(experts)[:used] for _ in range(tokens)], np.int32)


@pytest.mark.parametrize("kind", [*FLOATS, *QUANTISED, *DOTTED], ids=lambda t: t.name)
@pytest.mark.parametrize("shared", [True, False], ids=["one row a token", "a row for each expert"])
def test_experts_compute_what_each_would_alone(
    library: Library, isa: str, kind: Kind, shared: bool
) -> None:
    tokens, used, experts, m, k = 23, 3, 8, 40, 512
    weights, ids = _weights(kind, experts, m, k), _ids(tokens, used, experts)
    x = _random(tokens, 1 if shared else used, k)
    before = library.mat_mul_calls
    together = operations.mul_mat_id(kind, weights, x, ids, 1)
    assert library.mat_mul_calls == before + 1
    for threads in (2, 3):
        assert np.array_equal(together, operations.mul_mat_id(kind, weights, x, ids, threads))
    for token in (0, 9, tokens - 1):
        row = slice(token, token + 1)
        assert np.array_equal(
            operations.mul_mat_id(kind, weights, x[row], ids[row], 2), together[row]
        )
        for i, expert in enumerate(ids[token]):
            own = x[token, :1] if shared else x[token, i : i + 1]
            alone = operations.mul_mat(kind, weights[expert], own, 1)
            assert np.array_equal(alone[0], together[token, i])


@pytest.mark.parametrize("kind", SOME, ids=lambda t: t.name)
def test_instruction_sets_agree_to_the_bit(library: Library, isa: str, kind: Kind) -> None:
    weights, x, ids = _weights(kind, 6, 48, 768), _random(11, 1, 768), _ids(11, 2, 6)
    flat = weights.reshape(-1, weights.shape[-1])

    def results() -> list[FloatArray]:
        return [
            operations.mul_mat(kind, flat, x[:, 0], 2),
            operations.mul_mat_id(kind, weights, x, ids, 2),
        ]

    ours = results()
    library.bind(ggml.folder(), "avx2")
    for a, b in zip(ours, results(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", SOME, ids=lambda t: t.name)
def test_what_is_no_number_stays_in_its_column(isa: str, kind: Kind, bad: float) -> None:
    weights, x = _weights(kind, 32, 256), _random(7, 256)
    clean = operations.mul_mat(kind, weights, x, 2)
    x[3, 17] = bad
    dirty = operations.mul_mat(kind, weights, x, 2)
    others = np.arange(7) != 3
    assert np.array_equal(dirty[others], clean[others])


def test_a_product_with_experts_leaves_shared_activations_alone(isa: str) -> None:
    """Products that share their columns quantise these once, in memory that others use too."""
    kind, k = Kind.Q4_0, 512
    weights, experts = _weights(kind, 64, k), _weights(kind, 4, 64, k)
    x, ids = _random(40, 1, k), _ids(40, 2, 4)
    with contextlib.closing(Cpu(2, max_constants=5)) as cpu:
        graph = Graph(cpu, max_nodes=8)
        columns = cpu.constant(Kind.F32, x)
        rows = graph.reshape(columns, k, 40)
        first = graph.output(graph.mul_mat(cpu.constant(kind, weights), rows))
        chosen = graph.mul_mat_id(cpu.constant(kind, experts), columns, cpu.constant(Kind.I32, ids))
        graph.output(chosen)
        second = graph.output(graph.mul_mat(cpu.constant(kind, weights), rows))
        graph.allocate()
        graph.compute()
        before, after = (graph.array(t, (40, 64), np.float32) for t in (first, second))
        assert np.array_equal(before, after)
