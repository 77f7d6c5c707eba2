"""The floor of the benchmark is one: no kernel is faster than the processor is said to be."""

from __future__ import annotations

import time

import numpy as np
import pytest

from medusa.llama.ggml import quantise
from medusa.llama.gguf_files import Kind
from medusa.llama.kernels.library import UnavailableError
from medusa.llama.kernels.limits import LIBRARY, Limits
from medusa.llama.kernels.operations import repeated_mul_mat


@pytest.fixture(scope="module")
def limits() -> Limits:
    if not LIBRARY.exists():
        pytest.skip("the limits' library is not built")
    return Limits()


def test_peak_of_products_is_not_below_what_the_kernels_reach(isa: str, limits: Limits) -> None:
    m, n, k, matrices = 512, 64, 1024, 4  # the weights of all fit a cache
    rng = np.random.default_rng(0)
    weights = quantise(Kind.Q4_0, rng.standard_normal((m, k), dtype=np.float32))
    x = rng.standard_normal((n, k), dtype=np.float32)
    peak = rate = 0.0
    with repeated_mul_mat(Kind.Q4_0, weights, x, matrices, 1) as compute:
        for _ in range(12):  # in turns, since the processor's clock changes with time
            peak = max(peak, limits.peak_products(isa, 1))
            for _ in range(8):
                start = time.perf_counter()
                compute()
                rate = max(rate, matrices * m * n * k / (time.perf_counter() - start))
    assert peak >= 0.9 * rate, f"{peak / 1e9:.0f} against {rate / 1e9:.0f} G products a second"


def test_unknown_instruction_sets_have_no_peak(limits: Limits) -> None:
    with pytest.raises(UnavailableError, match="no sse9"):
        limits.peak_products("sse9", 1)


def test_memory_is_read(limits: Limits) -> None:
    assert limits.read_bandwidth(1) > 0
