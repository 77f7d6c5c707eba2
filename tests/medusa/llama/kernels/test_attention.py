"""Attention: right, and blind to where its cells lie and what else is in the batch."""

from __future__ import annotations

import numpy as np
import pytest

from medusa.llama.kernels import operations
from medusa.llama.kernels.library import Enable, Library

from . import reference

SHAPES = [(9, 3, 1, 256), (8, 2, 5, 512), (4, 4, 40, 64), (16, 2, 3, 1024)]
"""(heads, kv heads, queries, cells)"""


class Data:
    def __init__(
        self, dim: int, heads: int, kv_heads: int, n: int, cells: int, *, alike: bool = False
    ) -> None:
        rng = np.random.default_rng(dim + n + cells)
        self.q = rng.standard_normal((heads, n, dim), dtype=np.float32)
        self.k = rng.standard_normal((kv_heads, cells, dim)).astype(np.float16)
        self.v = rng.standard_normal((kv_heads, cells, dim)).astype(np.float16)
        if alike:  # neighbours see the same cells but for a tile, as in a candidate tree
            seen = np.arange(cells) // 16 != np.arange(n)[:, None] % (cells // 16)
        else:
            seen = rng.random((n, cells)) < 0.5
            seen[:, 16:48] = False  # whole tiles that nobody sees
        self.mask = np.where(seen, 0, -np.inf).astype(np.float16)
        self.scale = dim**-0.5

    def run(self, threads: int) -> np.ndarray:
        return operations.attention(self.q, self.k, self.v, self.mask, self.scale, threads)


@pytest.mark.parametrize("alike", [False, True], ids=["scattered", "alike"])
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_matches_a_double_precision_reference(
    library: Library, isa: str, dim: int, shape: tuple[int, int, int, int], alike: bool
) -> None:
    data = Data(dim, *shape, alike=alike)
    exact = reference.attention(data.q, data.k, data.v, data.mask, data.scale)
    ours = np.abs(data.run(2) - exact).max()
    library.enable(Enable(0))
    stock = np.abs(data.run(2) - exact).max()
    assert ours < 6e-5
    assert ours < stock / 25


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_sums_are_as_exact_for_small_and_large_values(isa: str, size: float) -> None:
    data = Data(64, 9, 3, 4, 512)
    data.v = (data.v * np.float16(size)).astype(np.float16)
    exact = reference.attention(data.q, data.k, data.v, data.mask, data.scale)
    assert np.abs(data.run(2) - exact).max() < 6e-5 * size


def test_values_that_are_not_finite_stay_with_the_queries_that_see_them(isa: str) -> None:
    data = Data(64, 6, 2, 4, 128, alike=True)
    data.mask[:3, 100] = -np.inf
    sound = data.run(2)
    for value in (np.nan, np.inf):
        data.v[:, 100, 7] = value
        broken = data.run(2)
        assert np.array_equal(sound[:3], broken[:3])
        assert np.isnan(broken[3]).all()


def test_a_value_that_is_not_finite_counts_however_little_weight_it_has(isa: str) -> None:
    data = Data(64, 6, 2, 4, 128, alike=True)
    data.mask[:, 100] = 0
    data.k[:, 100] = -100 * np.sign(data.q[0, 0])  # hardly seen by one query, well by others
    data.v[:, 100] = np.nan
    assert np.isnan(data.run(2)).all()


@pytest.mark.parametrize("sink", [False, True], ids=["equal", "sink"])
def test_rounding_that_is_the_same_for_all_cells_stays_small(isa: str, sink: bool) -> None:
    """The worst case: what rounding takes does not average out. At most a quantum a cell."""
    data = Data(64, 3, 1, 1, 4096)
    data.mask[:] = 0
    data.q[:], data.k[:], data.v[:] = 1, 0, 1
    data.v[:, :, 0] = 0
    if sink:
        data.k[:, 5] = 2  # all others weigh e^-16
    expected = np.ones(64)
    expected[0] = 0
    assert np.abs(data.run(2)[0] - expected).max() < 4096 * 2**-21


@pytest.mark.parametrize("alike", [False, True], ids=["scattered", "alike"])
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_order_of_cells_batch_and_threads_do_not_matter(
    isa: str, dim: int, shape: tuple[int, int, int, int], alike: bool
) -> None:
    data = Data(dim, *shape, alike=alike)
    whole = data.run(1)
    for threads in (2, 3, 5):
        assert np.array_equal(whole, data.run(threads))
    queries = data.q, data.mask
    for i in range(shape[2]):
        data.q, data.mask = queries[0][:, i : i + 1], queries[1][i : i + 1]
        assert np.array_equal(whole[i : i + 1], data.run(2))
    data.q, data.mask = queries
    order = np.random.default_rng(0).permutation(shape[3])
    data.k, data.v, data.mask = data.k[:, order], data.v[:, order], data.mask[:, order]
    assert np.array_equal(whole, data.run(2))


def test_more_cells_that_nobody_sees_change_nothing(isa: str) -> None:
    data = Data(64, 6, 2, 4, 128)
    small = data.run(2)
    hidden = np.full((2, 400, 64), np.nan, np.float16)
    data.k, data.v = (np.concatenate([t, hidden], axis=1) for t in (data.k, data.v))
    data.mask = np.pad(data.mask, ((0, 0), (0, 400)), constant_values=-np.inf)
    assert np.array_equal(small, data.run(2))


def test_a_query_that_sees_nothing_gets_zeros(isa: str) -> None:
    data = Data(64, 6, 2, 4, 128)
    data.mask[2] = -np.inf
    assert not data.run(1)[2].any()
