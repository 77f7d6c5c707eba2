"""Attention: right, and blind to where its cells lie and what else is in the batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from medusa.llama import ggml
from medusa.llama.gguf_files import Kind
from medusa.llama.kernels import operations
from medusa.llama.kernels.library import Enable, Library
from medusa.llama.kernels.operations import Attention, attention

from . import reference

SHAPES = [
    (9, 3, 1, 256, False),
    (8, 2, 5, 512, True),
    (4, 4, 40, 64, False),
    (16, 2, 3, 1024, True),
    (12, 1, 5, 128, False),
]
"""(heads, kv heads, queries, cells, whether queries see the same cells)"""

Shape = tuple[int, int, int, int, bool]


@dataclass(frozen=True)
class Form:
    """What models differ in."""

    key_size: int
    value_size: int
    kind: Kind = Kind.F16
    soft_cap: float = 0.0
    max_bias: float = 0.0
    sinks: bool = False

    def __str__(self) -> str:
        sizes = f"{self.kind.name} {self.key_size}/{self.value_size}"
        parts = (sizes, "cap" * bool(self.soft_cap), "alibi" * bool(self.max_bias))
        return " ".join(filter(None, (*parts, "sinks" * self.sinks)))


SIZES = (40, 64, 72, 80, 96, 100, 112, 128, 192, 256, 512)
FORMS = [
    *(Form(size, size) for size in SIZES),
    Form(192, 128),  # DeepSeek 2
    Form(576, 512),  # the same, absorbed
    Form(96, 64),  # MiniCPM 3
    *(Form(size, size, Kind.Q8_0) for size in (32, 64, 96, 128, 256)),
    Form(192, 128, Kind.Q8_0),
    Form(576, 512, Kind.Q8_0),
    Form(128, 128, soft_cap=50.0),  # Gemma 2
    Form(64, 64, sinks=True),  # gpt-oss
    Form(128, 128, max_bias=8.0),  # MPT
    Form(72, 80, soft_cap=5.0, max_bias=8.0, sinks=True),
    Form(64, 96, Kind.Q8_0, soft_cap=5.0, max_bias=8.0, sinks=True),
]


def make(
    form: Form, heads: int, kv_heads: int, n: int, cells: int, alike: bool = False
) -> Attention:
    rng = np.random.default_rng(form.key_size + n + cells)
    q = rng.standard_normal((heads, n, form.key_size), dtype=np.float32)
    k, v = (
        operations.cache_rows(
            form.kind, rng.standard_normal((kv_heads, cells, size), dtype=np.float32)
        )
        for size in (form.key_size, form.value_size)
    )
    if alike:  # neighbours see the same cells but for a tile, as in a candidate tree
        seen = np.arange(cells) // 16 != np.arange(n)[:, None] % (cells // 16)
    else:
        seen = rng.random((n, cells)) < 0.5
        seen[:, 16:48] = False  # whole tiles that nobody sees
    distance = np.abs(np.arange(n)[:, None] - np.arange(cells)) if form.max_bias else 0.0
    mask = np.where(seen, -distance, -np.inf).astype(np.float16)
    sinks = rng.standard_normal(heads, dtype=np.float32) * 3 if form.sinks else None
    scale, cap, bias = form.key_size**-0.5, form.soft_cap, form.max_bias
    return Attention(q, k, v, mask, scale, form.kind, cap, bias, sinks)


def small(kind: Kind = Kind.F16, **changes: object) -> Attention:
    """Four queries that see most of 128 cells."""
    data = make(Form(64, 64, kind), 6, 2, 4, 128, alike=True)
    return replace(data, **changes)  # type: ignore[arg-type]


def taken(data: Attention, cells: np.ndarray) -> Attention:
    """Some of the cells, in another order."""
    return replace(data, k=data.k[:, cells], v=data.v[:, cells], mask=data.mask[:, cells])


@pytest.mark.parametrize("isa", ["avx2"], indirect=True)  # the others are equal to the bit
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_matches_a_double_precision_reference(
    library: Library, isa: str, form: Form, shape: Shape
) -> None:
    data = make(form, *shape)
    exact = reference.attention(data)
    before = library.attention_calls
    ours = np.abs(attention(data, 2) - exact).max()
    assert library.attention_calls == before + 1
    library.enable(Enable(0))
    stock = np.abs(attention(data, 2) - exact).max()
    assert ours < 8e-5
    assert ours < stock / 15


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_order_of_cells_batch_threads_and_instruction_set_do_not_matter(
    library: Library, isa: str, form: Form, shape: Shape
) -> None:
    data = make(form, *shape)
    whole = attention(data, 1)
    for threads in (2, 3, 5):
        assert np.array_equal(whole, attention(data, threads))
    for i in range(shape[2]):
        alone = replace(data, q=data.q[:, i : i + 1], mask=data.mask[i : i + 1])
        assert np.array_equal(whole[i : i + 1], attention(alone, 2))
    moved = taken(data, np.random.default_rng(0).permutation(shape[3]))
    assert np.array_equal(whole, attention(moved, 2))
    library.bind(ggml.folder(), "avx2")
    assert np.array_equal(whole, attention(data, 1))


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_sums_are_as_exact_for_small_and_large_values(isa: str, size: float) -> None:
    data = small(v=(small().v * np.float16(size)).astype(np.float16))
    exact = reference.attention(data)
    assert np.abs(attention(data, 2) - exact).max() < 6e-5 * size


@pytest.mark.parametrize("what", ["k", "v"])
@pytest.mark.parametrize("kind", [Kind.F16, Kind.Q8_0], ids=lambda k: k.name)
def test_what_is_not_finite_stays_with_the_queries_that_see_it(
    isa: str, kind: Kind, what: str
) -> None:
    data = small(kind)
    data.mask[:3, 100] = -np.inf
    sound = attention(data, 2)
    stored = getattr(data, what)
    for value in (np.nan, np.inf):
        stored[:, 100].view(np.float16)[:, 0] = value  # in Q8_0 the first block's scale
        broken = attention(data, 2)
        assert np.array_equal(sound[:3], broken[:3])
        assert np.isnan(broken[3]).all() or (what == "k" and value == np.inf)


def test_a_query_that_is_not_a_number_stays_alone(isa: str) -> None:
    data = small()
    sound = attention(data, 2)
    data.q[:, 1, 5] = np.nan
    broken = attention(data, 2)
    assert np.isnan(broken[1]).all()
    assert np.array_equal(np.delete(sound, 1, 0), np.delete(broken, 1, 0))


@pytest.mark.parametrize("kind", [Kind.F16, Kind.Q8_0], ids=lambda k: k.name)
def test_a_value_that_is_not_finite_counts_however_little_weight_it_has(
    isa: str, kind: Kind
) -> None:
    data = small(kind)
    data.mask[:, 100] = 0
    far = -100 * np.sign(np.broadcast_to(data.q[0, 0], (2, 1, 64)))
    data.k[:, 100:101] = operations.cache_rows(
        kind, far
    )  # hardly seen by one query, well by others
    data.v[:, 100].view(np.float16)[:, 0] = np.nan
    assert np.isnan(attention(data, 2)).all()


@pytest.mark.parametrize("sink", [False, True], ids=["equal", "sink"])
def test_rounding_that_is_the_same_for_all_cells_stays_small(isa: str, sink: bool) -> None:
    """The worst case: what rounding takes does not average out. At most a quantum a cell."""
    data = make(Form(64, 64), 3, 1, 1, 4096)
    data.mask[:] = 0
    data.q[:], data.k[:], data.v[:] = 1, 0, 1
    data.v[:, :, 0] = 0
    if sink:
        data.k[:, 5] = 2  # all others weigh e^-16
    expected = np.ones(64)
    expected[0] = 0
    assert np.abs(attention(data, 2)[0] - expected).max() < 4096 * 2**-21


@pytest.mark.parametrize("form", [Form(64, 64), Form(72, 72), Form(64, 64, Kind.Q8_0)], ids=str)
def test_more_cells_that_nobody_sees_change_nothing(isa: str, form: Form) -> None:
    data = make(form, 6, 2, 4, 128)
    hidden = np.full((2, 400, data.k.shape[2]), 0xFF, np.uint8)  # not numbers, in both types
    hidden = np.concatenate([hidden] * data.k.itemsize, axis=2).view(data.k.dtype)
    more = replace(
        data,
        k=np.concatenate([data.k, hidden], axis=1),
        v=np.concatenate([data.v, hidden], axis=1),
        mask=np.pad(data.mask, ((0, 0), (0, 400)), constant_values=-np.inf),
    )
    assert np.array_equal(attention(data, 2), attention(more, 2))


@pytest.mark.parametrize("sinks", [None, np.full(6, 3, np.float32)], ids=["plain", "sinks"])
def test_a_query_that_sees_nothing_gets_zeros(isa: str, sinks: np.ndarray | None) -> None:
    data = small(sinks=sinks)
    data.mask[2] = -np.inf
    result = attention(data, 1)
    assert not result[2].any()
    assert result[3].any()
    data.mask[:] = -np.inf
    assert not attention(data, 2).any()


def test_a_sink_takes_its_share(isa: str) -> None:
    data = small(q=np.zeros((6, 4, 64), np.float32), v=np.ones((2, 128, 64), np.float16))
    sinks = np.array([-np.inf, -200, 0, 5, 16, 200], np.float32)
    seen = np.isfinite(data.mask).sum(axis=1)[:, None]
    expected = seen / (seen + np.exp(sinks.astype(np.float64)))
    ours = attention(replace(data, sinks=sinks), 2)
    assert np.abs(ours - expected[:, :, None]).max() < 5e-5
    sinks[2] = np.nan
    broken = attention(replace(data, sinks=sinks), 2)
    assert np.isnan(broken[:, 2]).all()
    assert np.array_equal(np.delete(broken, 2, 1), np.delete(ours, 2, 1))


def test_a_soft_cap_bounds_scores_and_bends_small_ones_little(isa: str) -> None:
    """One key against 0, alone in its dimension: the two values' weights tell its score."""
    x = np.concatenate([np.linspace(-4, 4, 4001), np.logspace(-6, 4, 500)]).astype(np.float32)
    data = make(Form(64, 64), 1, 1, len(x), 16)
    data.mask[:] = -np.inf
    data.mask[:, :2] = 0
    data.k[:], data.v[:], data.q[:] = 0, 0, 0
    data.k[0, 0, 0] = data.v[0, 0, 0] = 1
    data.q[0, :, 0] = x
    weight = attention(replace(data, scale=1.0, soft_cap=2.0), 2)[:, 0, 0].astype(np.float64)
    score = np.log(weight / (1 - weight))
    assert np.abs(score - 2 * np.tanh(x.astype(np.float64) / 2)).max() < 1e-5


@pytest.mark.parametrize("cap", [0.0, 30.0], ids=["plain", "capped"])
def test_scores_of_any_size_are_right(isa: str, cap: float) -> None:
    data = small(soft_cap=cap)
    for size, limit in ((0.0, 1e-4), (1e-6, 1e-4), (30.0, 1e-3), (1e4, 2e-2), (1e30, 1e-4)):
        large = replace(data, q=data.q * np.float32(size))
        assert np.abs(attention(large, 2) - reference.attention(large)).max() < limit
