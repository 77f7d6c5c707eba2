"""Matrix products: right, and a row's result depends on that row alone."""

from __future__ import annotations

import numpy as np
import pytest

from medusa.llama import ggml
from medusa.llama.gguf_files import Kind, block_size
from medusa.llama.kernels.library import Library
from medusa.llama.kernels.operations import QUANTISED, mul_mat

from . import reference
from .conftest import run_python

SHAPES = [(16, 1, 64), (33, 3, 320), (64, 8, 576), (100, 17, 192), (48, 70, 1536)]
"""(m, n, k); k is rounded up to whole blocks."""


def _data(kind: Kind, m: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(m * n + k)
    k = -(-k // block_size(kind)) * block_size(kind)
    weights = ggml.quantise(kind, rng.standard_normal((m, k), dtype=np.float32))
    x = rng.standard_normal((n, k), dtype=np.float32)
    x[:, 32:64] = 0  # a block without a scale
    return weights, x, reference.dequantise(kind, weights, k)


@pytest.mark.parametrize("kind", QUANTISED, ids=lambda t: t.name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_match_a_double_precision_reference(
    isa: str, kind: Kind, shape: tuple[int, int, int]
) -> None:
    weights, x, dense = _data(kind, *shape)
    exact = reference.quantise_activations(x) @ dense.T
    magnitude = np.abs(reference.quantise_activations(x)) @ np.abs(dense).T
    for threads in (1, 2):
        error = np.abs(mul_mat(kind, weights, x, threads) - exact)
        assert (error / magnitude).max() < 1e-6


@pytest.mark.parametrize("kind", QUANTISED, ids=lambda t: t.name)
def test_a_row_does_not_depend_on_batch_or_threads(isa: str, kind: Kind) -> None:
    weights, x, _ = _data(kind, 80, 40, 576)
    whole = mul_mat(kind, weights, x, 1)
    assert np.array_equal(whole, mul_mat(kind, weights, x, 2))
    for n in (1, 2, 3, 5, 7, 9, 11, 13, 16, 19):
        for first in (0, len(x) - n):
            part = mul_mat(kind, weights, x[first : first + n], 2)
            assert np.array_equal(part, whole[first : first + n])


@pytest.mark.parametrize("kind", QUANTISED, ids=lambda t: t.name)
def test_instruction_sets_agree_to_the_bit(library: Library, isa: str, kind: Kind) -> None:
    weights, x, _ = _data(kind, 48, 6, 576)
    ours = mul_mat(kind, weights, x, 1)
    library.bind(ggml.folder(), "avx2")
    assert np.array_equal(ours, mul_mat(kind, weights, x, 1))


def test_extreme_quants_do_not_overflow(isa: str) -> None:
    k = 256
    weights = np.tile(np.array([0x00, 0x3C] + 32 * [0x80], np.uint8), (16, k // 32))  # d 1, q -128
    x = np.full((4, k), -1, np.float32)
    assert np.allclose(mul_mat(Kind.Q8_0, weights, x, 1), 128 * k, rtol=1e-6)


def test_columns_of_a_wider_matrix_are_read_to_their_end_and_no_further(library: Library) -> None:
    """The matrix ends where memory does, so that one byte too many ends the process."""
    code = """
import ctypes, mmap
from contextlib import closing
import numpy as np
from medusa.llama import ggml, kernels
from medusa.llama.backend import Cpu
from medusa.llama.gguf_files import Kind
from medusa.llama.graph import Graph
from medusa.llama.kernels import operations
lib = kernels.load().library
rng = np.random.default_rng(0)
weights = ggml.quantise(Kind.Q8_0, rng.standard_normal((32, 512), dtype=np.float32))
x = rng.standard_normal((5, 256), dtype=np.float32)
size = -(-weights.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
memory = mmap.mmap(-1, size + mmap.PAGESIZE)
end = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + size
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(end), mmap.PAGESIZE, 0) == 0
placed = np.frombuffer(memory, np.uint8, weights.nbytes, size - weights.nbytes)
placed = placed.reshape(weights.shape)
placed[:] = weights
view = ctypes.CDLL(str(ggml.folder() / ggml.BASE)).ggml_view_2d
view.restype, view.argtypes = ctypes.c_void_p, [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 4
before = lib.mat_mul_calls
with closing(Cpu(1, max_constants=2)) as cpu:
    graph = Graph(cpu, max_nodes=4)
    whole = cpu.constant_in_place(Kind.Q8_0, placed)
    half = view(graph._context, whole, 256, 32, weights.shape[1], weights.shape[1] // 2)
    out = graph.output(graph.mul_mat(half, cpu.constant(Kind.F32, x)))
    graph.allocate()
    graph.compute()
    result = graph.array(out, (5, 32), np.float32).copy()
print(lib.mat_mul_calls - before)
alone = np.ascontiguousarray(weights[:, weights.shape[1] // 2 :])
print(np.array_equal(result, operations.mul_mat(Kind.Q8_0, alone, x, 1)))
"""
    assert run_python(code).split() == ["1", "True"]
