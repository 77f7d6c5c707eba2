"""Each replaced function against the original, on random data, before a model may use it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from medusa.llama import ggml
from medusa.llama.gguf_files import Kind, block_size

from . import operations
from .library import Enable, Library
from .operations import FLOATS, QUANTISED, Attention, FloatArray

MAT_MUL_TOLERANCE = 0.01
"""Largest difference to stock, in standard deviations of the result: stock keeps block scales of
activations in f16, we in f32."""

K_QUANT_TOLERANCE = 0.12
"""Stock quantises activations for K-quants in blocks of 256, we in blocks of 32."""

DOTTED = Kind.Q2_K
"""One of the types that go through ggml's own dot product."""

ATTENTION_TOLERANCE = 0.05
"""Stock sums values in f16, and quantises queries for a quantised cache."""

THREADS = 2
HEADS = 6


@dataclass(frozen=True)
class Check:
    """One replaced function on one kind of data."""

    name: str
    passed: bool
    detail: str


def run(library: Library) -> list[Check]:
    """All checks. Leaves the library switched off."""
    rng = np.random.default_rng(20240119)
    checks = _mat_muls(library, rng)
    checks.append(_experts(library, rng))
    checks += [_attention(library, *case, rng) for case in _attention_cases(rng).items()]
    checks.append(_barrier(library, rng))
    library.enable(Enable(0))
    return checks


def _mat_muls(library: Library, rng: np.random.Generator) -> list[Check]:
    """All types in one graph: a graph takes longer than its products."""
    m, n, k = 41, 5, 512
    values = rng.standard_normal((m, k), dtype=np.float32)
    kinds = (*QUANTISED, *FLOATS, DOTTED)
    weights = {kind: ggml.quantise(kind, values) for kind in kinds}
    x = rng.standard_normal((n, k), dtype=np.float32)

    library.enable(Enable(0))
    stock = operations.mul_mats(weights, x, 1)
    library.enable(Enable.MAT_MUL | Enable.ATTENTION)
    before = library.mat_mul_calls
    ours = operations.mul_mats(weights, x, THREADS)
    called = library.mat_mul_calls == before + len(kinds)
    alone = operations.mul_mats(weights, x[n - 1 :], 1)
    whole = {kind: rows[: m // 16 * 16] for kind, rows in weights.items()}
    packed = operations.mul_mats(whole, x, THREADS, library)
    checks = []
    for kind, theirs, product, row, copy in zip(kinds, stock, ours, alone, packed, strict=True):
        tolerance = K_QUANT_TOLERANCE if block_size(kind) == 256 else MAT_MUL_TOLERANCE
        limit, exact = tolerance * float(theirs.std()), np.array_equal(product[n - 1 :], row)
        exact = exact and np.array_equal(product[:, : copy.shape[1]], copy)
        checks.append(_check(f"mul_mat {kind.name}", theirs, product, limit, called, exact))
    return checks


def _experts(library: Library, rng: np.random.Generator) -> Check:
    kind, experts, m, tokens, k = Kind.Q4_0, 4, 24, 3, 128
    values = rng.standard_normal((experts * m, k), dtype=np.float32)
    weights = ggml.quantise(kind, values).reshape(experts, m, -1)
    x = rng.standard_normal((tokens, 1, k), dtype=np.float32)
    ids = np.array([[0, 3], [3, 2], [3, 0]], np.int32)

    library.enable(Enable(0))
    stock = operations.mul_mat_id(kind, weights, x, ids, 1)
    library.enable(Enable.MAT_MUL | Enable.ATTENTION)
    before = library.mat_mul_calls
    ours = operations.mul_mat_id(kind, weights, x, ids, THREADS)
    called = library.mat_mul_calls > before
    alone = operations.mul_mat_id(kind, weights, x[2:], ids[2:], 1)
    exact = np.array_equal(ours[2:], alone)
    limit = MAT_MUL_TOLERANCE * float(stock.std())
    return _check("experts", stock, ours, limit, called, exact)


def _attention_cases(rng: np.random.Generator) -> dict[str, Attention]:
    """One for each way that our code can take, by name."""
    extras = replace(
        _attention_case(Kind.F16, 80, 72, rng),
        soft_cap=20.0,
        max_bias=8.0,
        sinks=rng.standard_normal(HEADS, dtype=np.float32),
    )
    return {
        "F16 64": _attention_case(Kind.F16, 64, 64, rng),
        "F16 128": _attention_case(Kind.F16, 128, 128, rng),
        "F16 80/72 with soft cap, ALiBi and sinks": extras,
        "Q8_0 96": _attention_case(Kind.Q8_0, 96, 96, rng),
    }


def _attention_case(
    kind: Kind, key_size: int, value_size: int, rng: np.random.Generator
) -> Attention:
    kv_heads, n, cells = 2, 3, 96
    k, v = (
        operations.cache_rows(kind, rng.standard_normal((kv_heads, cells, size), dtype=np.float32))
        for size in (key_size, value_size)
    )
    mask = np.where(rng.random((n, cells)) < 0.6, -rng.random((n, cells)), -np.inf)
    mask[:, 32:64] = -np.inf
    q = rng.standard_normal((HEADS, n, key_size), dtype=np.float32)
    return Attention(q, k, v, mask.astype(np.float16), key_size**-0.5, kind)


def _attention(library: Library, name: str, case: Attention, rng: np.random.Generator) -> Check:
    library.enable(Enable(0))
    stock = operations.attention(case, 1)
    library.enable(Enable.MAT_MUL | Enable.ATTENTION)
    before = library.attention_calls
    ours = operations.attention(case, THREADS)
    called = library.attention_calls > before
    order = rng.permutation(case.k.shape[1])
    moved = replace(case, k=case.k[:, order], v=case.v[:, order], mask=case.mask[:, order])
    exact = np.array_equal(ours, operations.attention(moved, 1))
    return _check(f"attention {name}", stock, ours, ATTENTION_TOLERANCE, called, exact)


def _check(
    name: str, stock: FloatArray, ours: FloatArray, limit: float, called: bool, exact: bool
) -> Check:
    difference = float(np.abs(stock - ours).max())
    if not called:
        return Check(name, False, "our function was not called")
    if not difference <= limit:
        return Check(name, False, f"differs from stock by {difference:.2g}, allowed {limit:.2g}")
    if not exact:
        return Check(name, False, "the result depends on batch, threads, packing or cell order")
    return Check(name, True, f"within {difference:.1g} of stock, bit-identical alone")


def _barrier(library: Library, rng: np.random.Generator) -> Check:
    """Last, since a wrong idea of the thread pool would show as a hang: first see the pools."""
    if library.unexpected_pools:
        return Check("barrier", False, "ggml_threadpool has another layout")
    weights = ggml.quantise(Kind.Q8_0, rng.standard_normal((64, 512), dtype=np.float32))
    x = rng.standard_normal((24, 512), dtype=np.float32)  # enough columns to need the barrier
    library.enable(Enable.MAT_MUL)
    with_stock_barrier = operations.mul_mat(Kind.Q8_0, weights, x, THREADS)
    library.enable(Enable.ALL)
    same = np.array_equal(with_stock_barrier, operations.mul_mat(Kind.Q8_0, weights, x, THREADS))
    return Check("barrier", same, "as stock" if same else "results change with our barrier")
