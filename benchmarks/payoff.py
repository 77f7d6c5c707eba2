"""Whether guesses pay over HTTP: a server with them against one without, by number of clients."""

import statistics
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.progress import track
from rich.table import Table

from benchmarks.compare import plan
from benchmarks.compare.load import Generator, Job, generator
from benchmarks.compare.peers.ours import ours
from benchmarks.compare.peers.peer import CONTEXT, Running, running
from benchmarks.compare.prompts import Prompt, draw, in_turns
from benchmarks.compare.statistics import percentile
from benchmarks.report import JsonFile, MarkdownFile, commit, report
from benchmarks.servers import EMITTED, counted
from benchmarks.speculation import load_prompts
from models import DEFAULT_MODEL

_MOST_CLIENTS = 32
_GUESSES, _PLAIN, _CONTROL = "guesses", "none", "none again"
_LEAST_REQUESTS = 8
_ROWS = "llama_medusa_batch_tokens_sum"
_DECODED = "llama_medusa_batch_requests_sum"
_COUNTS = (EMITTED, _ROWS, _DECODED)


@dataclass(frozen=True)
class Timing:
    """What one server did with one round's prompts."""

    tokens_per_second: float
    cpu_ms: float  # of all threads, a token
    tokens_per_step: float  # of one request
    rows_per_step: float  # likewise


@dataclass(frozen=True)
class Payoff:
    """All rounds of a number of clients: medians; ratios are medians of those of neighbours."""

    clients: int
    name: str
    tokens_per_second: float
    ratio: float  # to the server without guesses
    lower: float  # quartile of the ratios
    upper: float
    cpu_ms: float
    tokens_per_step: float
    rows_per_step: float


def payoff(
    clients: Annotated[
        str, typer.Option(help="Comma-separated numbers of them.")
    ] = "1,2,4,8,16,32",
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 96,
    starts: Annotated[int, typer.Option(min=1, help="Times that servers are started.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds after each start.")] = 3,
    json: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Servers with and without guesses in turns, and a second one without for the noise."""
    crowds = [min(int(number), _MOST_CLIENTS) for number in clients.split(",")]
    found: dict[tuple[int, str], list[Timing]] = {}
    prompts = in_turns([Prompt(kind, (text,)) for kind, text in load_prompts(12)])
    for start in track(range(starts), "starting servers"):
        with ExitStack() as stack:
            logs = Path(stack.enter_context(TemporaryDirectory()))
            load = stack.enter_context(generator())
            servers = [
                stack.enter_context(_serving(name, logs)) for name in (_GUESSES, _PLAIN, _CONTROL)
            ]
            for number in range(rounds):
                edition = start * rounds + number
                for crowd, server in plan.in_turns(crowds, servers, edition):
                    asked = draw(prompts, max(_LEAST_REQUESTS, 2 * crowd), edition)
                    timing = _time(server, load, asked, crowd, tokens)
                    found.setdefault((crowd, server.name), []).append(timing)
    rows = [_payoff(crowd, name, found) for crowd, name in found]
    rows.sort(key=lambda row: (row.clients, row.name != _PLAIN, row.name))
    report("payoff", [_table(rows)], {"payoff": [asdict(row) for row in rows]}, json, markdown)


def _serving(name: str, logs: Path) -> AbstractContextManager[Running]:
    peer = ours(DEFAULT_MODEL, commit(), name=name, guesses=name == _GUESSES)
    room = ("--parallel", str(_MOST_CLIENTS), "--ctx-size", str(_MOST_CLIENTS * CONTEXT))
    return running(replace(peer, command=(*peer.command, *room)), logs)


def _time(
    server: Running, load: Generator, prompts: tuple[Prompt, ...], clients: int, tokens: int
) -> Timing:
    assert server.processes is not None
    with server.alone():
        before, cpu = counted(server.url, *_COUNTS), server.processes.cpu_seconds()
        job = Job(server.url, server.model, prompts, (0.0,) * len(prompts), clients, tokens)
        burst = load.run(job)
        spent = (server.processes.cpu_seconds() or 0.0) - (cpu or 0.0)
        after = counted(server.url, *_COUNTS)
    errors = [answer.error for answer in burst.answers if answer.error]
    if errors:
        raise RuntimeError(f"{server.name}: {errors[0]}")
    written = sum(answer.completion_tokens or 0 for answer in burst.answers)
    gained = {name: after[name] - before[name] for name in after}
    return Timing(
        written / burst.seconds,
        1000 * spent / written,
        gained[EMITTED] / gained[_DECODED],
        gained[_ROWS] / gained[_DECODED],
    )


def _payoff(clients: int, name: str, found: dict[tuple[int, str], list[Timing]]) -> Payoff:
    own, plain = found[clients, name], found[clients, _PLAIN]
    ratios = [
        one.tokens_per_second / other.tokens_per_second
        for one, other in zip(own, plain, strict=True)
    ]

    def median(part: str) -> float:
        return statistics.median(getattr(each, part) for each in own)

    return Payoff(
        clients,
        name,
        median("tokens_per_second"),
        statistics.median(ratios),
        percentile(ratios, 0.25),
        percentile(ratios, 0.75),
        median("cpu_ms"),
        median("tokens_per_step"),
        median("rows_per_step"),
    )


def _table(rows: Sequence[Payoff]) -> Table:
    table = Table(
        "clients", "guesses", "tokens/s", "ratio", "quartiles", "processor ms a token",
        "tokens/step", "rows/step",
        title="guesses over HTTP; tokens and rows a step are those of one request",
    )  # fmt: skip
    for row in rows:
        table.add_row(
            str(row.clients),
            {_GUESSES: "yes"}.get(row.name, row.name),
            f"{row.tokens_per_second:.0f}",
            f"{row.ratio:.2f}",
            f"{row.lower:.2f} to {row.upper:.2f}",
            f"{row.cpu_ms:.2f}",
            f"{row.tokens_per_step:.2f}",
            f"{row.rows_per_step:.2f}",
        )
    return table
