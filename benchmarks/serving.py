"""Whole servers over HTTP, as clients see them: speed, time to first token, inter-token latency."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from openai import AsyncOpenAI
from rich.progress import track
from rich.table import Table

from benchmarks.report import JsonFile, MarkdownFile, report
from benchmarks.servers import server
from benchmarks.workload import question

_CLIENTS = (1, 8)
_QUESTIONS = 8


@dataclass(frozen=True)
class Setting:
    """A server to measure: what it is called, its options, and its environment."""

    name: str
    options: tuple[str, ...]
    kernels: str


SETTINGS = (
    Setting("llama.cpp's kernels, no guesses", ("--draft-nodes", "0"), "off"),
    Setting("llama.cpp's kernels, guesses", (), "off"),
    Setting("our kernels, no guesses", ("--draft-nodes", "0"), "auto"),
    Setting("our kernels, guesses", (), "auto"),
)


@dataclass(frozen=True)
class Answer:
    """One streamed answer. Times in seconds since it was asked for."""

    n_tokens: int
    first: float
    last: float


@dataclass(frozen=True)
class Figures:
    """One server and number of clients; medians over the rounds."""

    server: str
    clients: int
    tokens_per_second: float  # of all clients together
    first_token_ms: float
    inter_token_ms: float  # mean of an answer, median over answers


def serving(
    json: JsonFile = None,
    markdown: MarkdownFile = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times each server is measured.")] = 3,
    tokens: Annotated[int, typer.Option(min=8, help="Most tokens of an answer.")] = 128,
) -> None:
    """Real servers with our kernels and llama.cpp's, with and without guesses, in turns."""
    found: dict[tuple[str, int], list[tuple[float, list[Answer]]]] = {}
    with ExitStack() as stack:
        urls = {
            setting: stack.enter_context(server(*setting.options, kernels=setting.kernels))
            for setting in SETTINGS
        }
        for number in track(range(rounds), description="measuring"):
            for clients in _CLIENTS:
                for setting, url in urls.items():
                    questions = [question(i, 10 * number + clients) for i in range(_QUESTIONS)]
                    began = time.perf_counter()
                    answers = asyncio.run(_ask_all(url, clients, questions, tokens))
                    seconds = time.perf_counter() - began
                    found.setdefault((setting.name, clients), []).append((seconds, answers))
    rows = [_figures(*key, runs) for key, runs in found.items()]
    table = Table("server", "clients", "tokens/s", "first token, ms", "inter-token, ms")
    for row in rows:
        table.add_row(
            row.server,
            str(row.clients),
            f"{row.tokens_per_second:.0f}",
            f"{row.first_token_ms:.0f}",
            f"{row.inter_token_ms:.1f}",
        )
    report("serving", [table], {"serving": [asdict(row) for row in rows]}, json, markdown)


async def _ask_all(url: str, clients: int, questions: Sequence[str], n_tokens: int) -> list[Answer]:
    """All questions, `clients` at a time."""
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600)
    free = asyncio.Semaphore(clients)

    async def ask(text: str) -> Answer:
        async with free:
            return await _ask(client, text, n_tokens)

    async with client:
        return await asyncio.gather(*(ask(text) for text in questions))


async def _ask(client: AsyncOpenAI, text: str, n_tokens: int) -> Answer:
    began = time.perf_counter()
    stream = await client.chat.completions.create(
        model="default",
        messages=[{"role": "user", "content": text}],
        max_tokens=n_tokens,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    first = last = 0.0
    n_written = 0
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            last = time.perf_counter() - began
            first = first or last
        if chunk.usage is not None:
            n_written = chunk.usage.completion_tokens
    return Answer(n_written, first, last)


def _figures(server: str, clients: int, runs: list[tuple[float, list[Answer]]]) -> Figures:
    answers = [answer for _, some in runs for answer in some]
    return Figures(
        server,
        clients,
        statistics.median(sum(a.n_tokens for a in some) / seconds for seconds, some in runs),
        1000 * statistics.median(a.first for a in answers),
        1000 * statistics.median((a.last - a.first) / max(1, a.n_tokens - 1) for a in answers),
    )
