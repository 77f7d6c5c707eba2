"""Tokens per second of all configurations: with and without heads, one client and several."""

import statistics
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.progress import track
from rich.table import Table

from benchmarks.report import JsonFile, MarkdownFile, report
from benchmarks.workload import Bench, Timing, run

_REQUESTS = 8


@dataclass(frozen=True)
class Throughput:
    """One configuration; medians over the rounds."""

    heads: bool
    clients: int
    tokens_per_second: float
    tokens_per_step: float


def throughput(
    json: JsonFile = None,
    markdown: MarkdownFile = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times each configuration is run.")] = 3,
    tokens: Annotated[int, typer.Option(min=8, help="Tokens of each answer.")] = 128,
) -> None:
    """Answer eight questions by 1, 2, 4 and 8 clients, greedy, heads off and on in turns."""
    bench = Bench.load()
    engines = {heads: bench.engine(_REQUESTS, speculate=heads) for heads in (False, True)}
    timings: dict[tuple[bool, int], list[Timing]] = {}
    order = [(heads, clients) for clients in (1, 2, 4, 8) for heads in (False, True)]
    for number in track(range(rounds), description="measuring"):
        for heads, clients in order:
            requests = bench.requests(_REQUESTS, tokens, edition=10 * number + clients)
            timings.setdefault((heads, clients), []).append(run(engines[heads], requests, clients))
    for engine in engines.values():
        engine.close()
    rows = [
        Throughput(
            heads,
            clients,
            statistics.median(t.tokens_per_second for t in timings[heads, clients]),
            statistics.median(t.tokens_per_step for t in timings[heads, clients]),
        )
        for heads, clients in order
    ]
    base = rows[0].tokens_per_second
    table = Table("clients", "heads", "tokens/s", "ratio", "tokens per step")
    for row in rows:
        table.add_row(
            str(row.clients),
            "on" if row.heads else "off",
            f"{row.tokens_per_second:.0f}",
            f"{row.tokens_per_second / base:.2f}",
            f"{row.tokens_per_step:.2f}",
        )
    report("throughput", [table], {"throughput": [asdict(row) for row in rows]}, json, markdown)
