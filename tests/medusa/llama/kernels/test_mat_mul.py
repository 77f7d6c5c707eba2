"""Matrix products: right, and a row's result depends on that row alone."""

from __future__ import annotations

import numpy as np
import pytest

from medusa.llama import ggml
from medusa.llama.gguf_files import Kind, block_size
from medusa.llama.kernels.library import Library
from medusa.llama.kernels.operations import QUANTISED, mul_mat

from . import reference

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
