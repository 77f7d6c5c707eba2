"""Where a step's time goes: llama.cpp, the heads, and the engine's own Python."""

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from rich.table import Table

from benchmarks.report import JsonFile, MarkdownFile, report
from benchmarks.workload import Bench, run
from medusa.engine.report import StepReport

_SLOTS = (1, 8)
_TOKENS = 160
_WARM_UP_STEPS = 5


@dataclass(frozen=True)
class StepTimes:
    """Medians over the steps of one configuration, in milliseconds."""

    slots: int
    heads: bool
    sampled: bool
    steps: int
    step_ms: float
    llama_ms: float
    heads_ms: float
    overhead_ms: float


def step(
    json: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Time of a decode step by part; overhead = step - llama.cpp - heads."""
    bench = Bench.load()
    rows = list(_measure(bench))
    table = Table(
        "slots", "heads", "sampling", "steps", "step ms", "llama.cpp ms", "heads ms", "overhead ms",
        title="one decode step, medians",
    )  # fmt: skip
    for row in rows:
        table.add_row(
            str(row.slots),
            "on" if row.heads else "off",
            "temperature 0.8" if row.sampled else "greedy",
            str(row.steps),
            f"{row.step_ms:.2f}",
            f"{row.llama_ms:.2f}",
            f"{row.heads_ms:.2f}",
            f"{row.overhead_ms:.3f}",
        )
    report("step", [table], {"step": [asdict(row) for row in rows]}, json, markdown)


def _measure(bench: Bench) -> Iterator[StepTimes]:
    for slots in _SLOTS:
        for heads in (False, True):
            for sampled in (False, True):
                reports: list[StepReport] = []
                engine = bench.engine(slots, speculate=heads, observer=reports.append)
                temperature = 0.8 if sampled else 0.0
                run(engine, bench.requests(slots, _TOKENS, temperature), clients=slots)
                engine.close()
                full = [r for r in reports if r.n_decoding == slots and not r.prefilled_tokens]
                yield _medians(slots, heads, sampled, full[_WARM_UP_STEPS:])


def _medians(slots: int, heads: bool, sampled: bool, reports: list[StepReport]) -> StepTimes:
    def median(values: list[float]) -> float:
        return 1000 * statistics.median(values)

    return StepTimes(
        slots=slots,
        heads=heads,
        sampled=sampled,
        steps=len(reports),
        step_ms=median([r.seconds for r in reports]),
        llama_ms=median([r.llama_seconds for r in reports]),
        heads_ms=median([r.heads_seconds for r in reports]),
        overhead_ms=median([r.overhead_seconds for r in reports]),
    )
