"""What streaming takes: processor time of the thread that sends, in every dialect."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import httpx
import typer
from rich.table import Table

from benchmarks.compare.peers.ours import ours
from benchmarks.compare.peers.peer import Running, running
from benchmarks.compare.revision import checked_out, commit_of
from benchmarks.report import JsonFile, MarkdownFile, commit, report
from benchmarks.servers import EMITTED, counted
from benchmarks.workload import question
from models import DEFAULT_MODEL

_SETTLED = 0.05
"""Seconds after which the engine has counted what clients have."""
_Body = dict[str, Any]
_GREEDY = {"temperature": 0, "ignore_eos": True}


def _talk(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@dataclass(frozen=True)
class Dialect:
    """A stream to ask for."""

    name: str
    path: str
    body: Callable[[str, int], _Body]  # from what is asked, and most tokens of the answer


DIALECTS = (
    Dialect(
        "OpenAI, chat",
        "/v1/chat/completions",
        lambda text, limit: {"messages": _talk(text), "max_tokens": limit, **_GREEDY},
    ),
    Dialect(
        "OpenAI, completions",
        "/v1/completions",
        lambda text, limit: {"prompt": text, "max_tokens": limit, **_GREEDY},
    ),
    Dialect(
        "OpenAI, responses",
        "/v1/responses",
        lambda text, limit: {"input": text, "max_output_tokens": limit, "temperature": 0},
    ),
    Dialect(
        "Anthropic",
        "/v1/messages",
        lambda text, limit: {"messages": _talk(text), "max_tokens": limit, "temperature": 0},
    ),
    Dialect(
        "llama-server",
        "/completion",
        lambda text, limit: {"prompt": text, "n_predict": limit, **_GREEDY},
    ),
    Dialect(
        "Ollama",
        "/api/chat",
        lambda text, limit: {
            "messages": _talk(text),
            "options": {"num_predict": limit, **_GREEDY},
        },
    ),
)


@dataclass(frozen=True)
class Cost:
    """What a token of a dialect's streams takes, median over the rounds."""

    revision: str
    dialect: str
    tokens: int  # of the last round
    ms: float  # of the thread that sends, a token


def streaming(
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 300,
    clients: Annotated[int, typer.Option(min=1, help="Streams at a time.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each is asked for.")] = 5,
    against: Annotated[str | None, typer.Option(help="Also measure this revision of ours.")] = None,
    json: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Processor time a streamed token of the server's event loop, which answers all clients."""
    with ExitStack() as stack:
        folders: dict[str, Path | None] = {}
        if against is not None:
            folders[commit_of(against)] = stack.enter_context(checked_out(against))
        folders[commit()] = None
        logs = Path(stack.enter_context(TemporaryDirectory()))
        servers = [
            stack.enter_context(_serving(revision, folder, logs))
            for revision, folder in folders.items()
        ]
        costs = _measure(servers, tokens, clients, rounds)
    table = Table(
        "dialect", "tokens", *(f"{name}, ms a token" for name in folders),
        title=f"event loop's processor time; {clients} at a time, medians of {rounds} rounds",
    )  # fmt: skip
    for dialect in DIALECTS:
        own = [cost for cost in costs if cost.dialect == dialect.name]
        table.add_row(dialect.name, str(own[-1].tokens), *(f"{cost.ms:.3f}" for cost in own))
    name = f"streaming {clients}"
    report(name, [table], {"streaming": [vars(cost) for cost in costs]}, json, markdown)


@contextmanager
def _serving(revision: str, folder: Path | None, logs: Path) -> Iterator[Running]:
    peer = ours(DEFAULT_MODEL, revision, name=revision, folder=folder)
    peer = replace(peer, command=(*peer.command, "--no-supervise"))  # the process that is measured
    with running(peer, logs) as server:
        yield server


def _measure(servers: Sequence[Running], tokens: int, clients: int, rounds: int) -> list[Cost]:
    costs = []
    for dialect in DIALECTS:
        found: list[list[float]] = [[] for _ in servers]
        count = 0
        for edition in range(rounds + 1):
            texts = [question(number, edition) for number in range(clients)]
            bodies = [dialect.body(text, tokens) | {"stream": True} for text in texts]
            for server, own in zip(servers, found, strict=True):
                with server.alone():
                    seconds, count = _cost(server, dialect.path, bodies)
                own.append(seconds / count)
        costs += [
            Cost(server.name, dialect.name, count, 1000 * statistics.median(own[1:]))
            for server, own in zip(servers, found, strict=True)
        ]  # the first round warms up
    return costs


def _cost(server: Running, path: str, bodies: Sequence[_Body]) -> tuple[float, int]:
    """Processor time of the event loop, and tokens, of streams that are read at the same time."""
    assert server.processes is not None
    before = _generated(server)
    with httpx.Client(base_url=server.url, timeout=600) as http, ThreadPoolExecutor() as threads:
        began = server.processes.first_thread_seconds()
        for _ in threads.map(lambda body: _read(http, path, body), bodies):
            pass
        seconds = server.processes.first_thread_seconds() - began
    time.sleep(_SETTLED)
    return seconds, _generated(server) - before


def _read(http: httpx.Client, path: str, body: _Body) -> None:
    with http.stream("POST", path, json=body) as answer:
        answer.raise_for_status()
        for _ in answer.iter_raw():
            pass


def _generated(server: Running) -> int:
    """Tokens that a server has generated so far."""
    return int(counted(server.url, EMITTED)[EMITTED])
