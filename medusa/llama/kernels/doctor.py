"""What `llama-medusa doctor` shows about this machine's processor and our kernels."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medusa.llama import ggml, processor
from medusa.llama.gguf_files import Kind
from medusa.llama.threads import default_threads

from . import KernelStatus
from .library import Enable, Library
from .operations import repeated_mul_mat

_AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni")
FEATURES = {
    "x86_64": ("avx2", "fma", "f16c", "avx_vnni", *_AVX512),
    "aarch64": ("asimddp",),
}
"""By `platform.machine()`, in Linux's names."""


def cpu_features() -> dict[str, bool]:
    """Instruction set extensions that our kernels ask for, and whether this processor has them."""
    flags = processor.flags()
    return {name: name in flags for name in FEATURES.get(platform.machine(), ())}


@dataclass(frozen=True)
class Speed:
    """One product of n columns with weights larger than the cache, seconds (medians)."""

    kind: str
    n: int
    stock: float
    ours: float

    @property
    def ratio(self) -> float:
        """How many times faster ours are."""
        return self.stock / self.ours


def compare_speed(status: KernelStatus, seconds: float = 10.0, threads: int = 0) -> list[Speed]:
    """Stock plain-layout kernels against ours, alternating, in about that many seconds."""
    if status.library is None:
        return []
    threads = threads or default_threads()
    rng = np.random.default_rng(0)
    kinds, columns = (Kind.Q4_0, Kind.Q4_1, Kind.Q8_0, Kind.Q4_K, Kind.Q6_K), (1, 4, 8)
    budget = seconds / (len(kinds) * len(columns))
    k, rows, matrices = 2048, 4096, 4
    few = rng.standard_normal((64, k), dtype=np.float32)
    results = []
    for kind in kinds:
        weights = np.tile(ggml.quantise(kind, few), (rows // len(few), 1))
        for n in columns:
            x = rng.standard_normal((n, k), dtype=np.float32)
            pack = status.library if status.packs else None
            with repeated_mul_mat(kind, weights, x, matrices, threads, pack) as compute:
                stock, ours = _median_seconds(status.library, compute, budget)
            results.append(Speed(kind.name, n, stock / matrices, ours / matrices))
    status.library.enable(Enable.ALL)
    return results


def _median_seconds(
    library: Library, compute: Callable[[], None], budget: float
) -> tuple[float, float]:
    """Of stock kernels and of ours, in turns for that many seconds, at least three each."""
    times: dict[Enable, list[float]] = {Enable(0): [], Enable.ALL: []}
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(times[Enable.ALL]) < 3:
        for what, measured in times.items():
            library.enable(what)
            start = time.perf_counter()
            compute()
            measured.append(time.perf_counter() - start)
    stock, ours = (float(np.median(measured)) for measured in times.values())
    return stock, ours
