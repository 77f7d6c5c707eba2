"""Quantised matrix products alone: how many multiplications a core does, beside what it can do.

Weights are read from memory as in a model: so many matrices of one shape in turn that no core's own
cache holds them. The machine's peak is asked for between them, since its clock changes.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import typer
from rich.progress import track
from rich.table import Table

from benchmarks.report import JsonFile, MarkdownFile, report
from medusa.llama import ggml
from medusa.llama import kernels as cpu_kernels
from medusa.llama.gguf_files import Kind, block_size
from medusa.llama.kernels import KernelStatus
from medusa.llama.kernels.limits import Limits
from medusa.llama.kernels.operations import repeated_mul_mat

KINDS = (Kind.Q4_0, Kind.Q4_1, Kind.Q8_0, Kind.Q4_K, Kind.Q6_K)
SHAPES = ((576, 1536), (576, 49152), (2048, 4096))
"""(k, rows): feed-forward and vocabulary of SmolLM2-135M, feed-forward of a model of 1B."""
COLUMNS = (1, 2, 4, 8, 16, 32)
_BEYOND_CACHES = 64 << 20


@dataclass(frozen=True)
class Rate:
    """One product of n columns."""

    kind: str
    k: int
    rows: int
    threads: int
    n: int
    plain: float  # seconds, weights as they lie in a file
    packed: float | None  # seconds with packed copies; None: the kernels make none

    @property
    def per_core(self) -> float:
        """Multiplications a second and core, as models are computed."""
        return self.k * self.rows * self.n / (self.packed or self.plain) / self.threads


def _rates(status: KernelStatus, kind: Kind, k: int, rows: int, threads: int) -> list[Rate]:
    """The lower quartile of many short measurements, all in turns."""
    rng = np.random.default_rng(0)
    few = ggml.quantise(kind, rng.standard_normal((64, k), dtype=np.float32))
    weights = np.tile(few, (rows // len(few), 1))
    matrices = max(1, _BEYOND_CACHES // weights.nbytes)
    x = rng.standard_normal((max(COLUMNS), k), dtype=np.float32)
    ways = {"plain": None, "packed": status.library} if status.packs else {"plain": None}
    times: dict[tuple[str, int], float] = {}
    for n in COLUMNS:
        for way, library in ways.items():
            with repeated_mul_mat(kind, weights, x[:n], matrices, threads, library) as compute:
                times[way, n] = _quartile(compute) / matrices
    return [
        Rate(kind.name, k, rows, threads, n, times["plain", n], times.get(("packed", n)))
        for n in COLUMNS
    ]


def _quartile(compute: Callable[[], None]) -> float:
    compute()
    times: list[float] = []
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end or len(times) < 8:
        start = time.perf_counter()
        compute()
        times.append(time.perf_counter() - start)
    return float(np.quantile(times, 0.25))


def _table(rates: list[Rate], title: str) -> Table:
    grouped: dict[tuple[str, int, int, int], list[Rate]] = defaultdict(list)
    for rate in rates:
        grouped[rate.kind, rate.k, rate.rows, rate.threads].append(rate)
    table = Table("weights", "shape", "threads", *(f"n={n}" for n in COLUMNS), title=title)
    for (kind, k, rows, threads), row in grouped.items():
        first = row[0].packed or row[0].plain
        cells = [f"{r.per_core / 1e9:.0f} ({(r.packed or r.plain) / first:.2f})" for r in row]
        table.add_row(kind, f"{k} x {rows}", str(threads), *cells)
    return table


def products(
    json: JsonFile = None,
    markdown: MarkdownFile = None,
    types: Annotated[str, typer.Option(help="Comma-separated.")] = "Q4_0,Q4_1,Q8_0,Q4_K,Q6_K",
    threads: Annotated[str, typer.Option(help="Comma-separated.")] = "1,2",
) -> None:
    """Time products of quantised weights alone: multiplications a second and core, t(n) / t(1)."""
    status = cpu_kernels.load()
    if not status.active:
        raise typer.BadParameter(f"our kernels are not active: {status.reason}")
    limits = Limits()
    cases = [
        (kind, k, rows, int(count))
        for kind in KINDS
        for k, rows in SHAPES
        for count in threads.split(",")
        if kind.name in types.split(",") and k % block_size(kind) == 0
    ]
    rates: list[Rate] = []
    peak = 0.0
    for case in track(cases, description="measuring"):
        peak = max(peak, limits.peak_products(status.isa, 1))
        rates += _rates(status, *case)
    title = (
        f"{status.isa}{', packed' if status.packs else ''}: G products a second and core "
        f"(t(n) / t(1)); at most {peak / 1e9:.0f} with all operands in registers"
    )
    results = {
        "isa": status.isa,
        "packs": status.packs,
        "peak": peak,
        "rates": [asdict(rate) for rate in rates],
    }
    report("products", [_table(rates, title)], results, json, markdown)
