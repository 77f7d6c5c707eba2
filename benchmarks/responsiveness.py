"""How soon /health is answered while clients do their worst."""

import http.client
import json as jsonlib
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.table import Table

from benchmarks.report import JsonFile, MarkdownFile, report
from benchmarks.servers import server
from benchmarks.workload import QUESTIONS

_PAUSE = 0.01  # seconds between two probes
_IDLE_CONNECTIONS = 60


@dataclass(frozen=True)
class Figures:
    """Answers to /health during one attack, milliseconds from the request to the whole answer."""

    attack: str
    attackers: int
    answers: Mapping[str, int]  # the attack's own, by status
    probes: int
    median_ms: float
    p99_ms: float
    worst_ms: float


@dataclass(frozen=True)
class Attack:
    """A request that is sent again and again, by some clients at once."""

    name: str
    path: str
    body: bytes
    attackers: int = 1


def attacks() -> list[Attack]:
    """What is within the limits but large, and what is beyond them."""

    def attack(name: str, path: str, body: Any, attackers: int = 1) -> Attack:
        return Attack(name, path, jsonlib.dumps(body).encode(), attackers)

    completions, chat = "/v1/completions", "/v1/chat/completions"
    talk = [
        {"role": "user" if number % 2 == 0 else "assistant", "content": QUESTIONS[number % 8]}
        for number in range(2001)
    ]
    wide = {
        "type": "object",
        "properties": {f"p{number}": {"enum": list(range(40))} for number in range(300)},
    }
    return [
        attack("8 answers are written", chat, {"messages": talk[:1], "max_tokens": 200}, 8),
        attack("2,000 prompts, n 64", completions, {"prompt": ["w"] * 2000, "n": 64}),
        attack("a prompt of 7.9 MB", completions, {"prompt": "word " * 1_580_000}),
        attack("tokenize 990,000 characters", "/tokenize", {"content": "word " * 198_000}),
        attack("990,000 times one letter", "/tokenize", {"content": "a" * 990_000}),
        attack("a million values", completions, {"prompt": [[5] * 1000] * 1000}),
        attack("a chat of 2,001 messages", chat, {"messages": talk, "max_tokens": 1}),
        Attack("nested 100,000 deep", completions, b'{"prompt":' + b"[" * 100_000),
        Attack("9 MB, which is too much", completions, b'{"prompt":"' + b"a" * 9_000_000),
        attack(
            "a schema of 12,000 values",
            chat,
            {"messages": talk[:1], "max_tokens": 1, "json_schema": wide},
        ),
        attack(
            "a regular expression of 10^8 states",
            completions,
            {"prompt": "a", "max_tokens": 1, "guided_regex": "((a{1,100}b?){1,1000}c?){1,1000}"},
        ),
    ]


def responsiveness(
    json: JsonFile = None,
    markdown: MarkdownFile = None,
    seconds: Annotated[float, typer.Option(min=1, help="Duration of each attack.")] = 5,
) -> None:
    """Time /health on a server that is being attacked."""
    with server() as url:
        rows = [_measure("nothing", 0, url, seconds, nullcontext(Counter()))]
        for attack in attacks():
            attacking = _attacking(url, attack)
            rows.append(_measure(attack.name, attack.attackers, url, seconds, attacking))
        rows.append(
            _measure("requests that never end", _IDLE_CONNECTIONS, url, seconds, _idle(url))
        )
    table = Table("attack", "clients", "their answers", "median, ms", "p99, ms", "worst, ms")
    for row in rows:
        table.add_row(
            row.attack,
            str(row.attackers),
            ", ".join(f"{count} x {what}" for what, count in sorted(row.answers.items())),
            f"{row.median_ms:.1f}",
            f"{row.p99_ms:.1f}",
            f"{row.worst_ms:.1f}",
        )
    report("responsiveness", [table], {"responsiveness": list(map(asdict, rows))}, json, markdown)


def _measure(
    name: str,
    attackers: int,
    url: str,
    seconds: float,
    attack: AbstractContextManager[Counter[str]],
) -> Figures:
    with attack as answers:
        times = sorted(_probe(url, seconds))
    return Figures(
        name,
        attackers,
        dict(answers),
        len(times),
        1000 * statistics.median(times),
        1000 * times[int(0.99 * (len(times) - 1))],
        1000 * times[-1],
    )


def _probe(url: str, seconds: float) -> Iterator[float]:
    """How long each of many answers takes, one after the other."""
    end = time.perf_counter() + seconds
    probe = _connect(url)
    while time.perf_counter() < end:
        began = time.perf_counter()
        probe.request("GET", "/health")
        probe.getresponse().read()
        yield time.perf_counter() - began
        time.sleep(_PAUSE)
    probe.close()


@contextmanager
def _attacking(url: str, attack: Attack) -> Iterator[Counter[str]]:
    """Attack until the end of the block; the answers are counted meanwhile."""
    answers: Counter[str] = Counter()
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            client = _connect(url)
            try:
                client.request(
                    "POST", attack.path, attack.body, {"Content-Type": "application/json"}
                )
                answer = client.getresponse()
                answer.read()
                answers[str(answer.status)] += 1
            except OSError:
                answers["cut"] += 1
            finally:
                client.close()

    threads = [threading.Thread(target=go_on) for _ in range(attack.attackers)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


@contextmanager
def _idle(url: str) -> Iterator[Counter[str]]:
    """Connections that send half a request."""
    address = urlsplit(url)
    with ExitStack() as stack:
        for _ in range(_IDLE_CONNECTIONS):
            client = socket.create_connection((address.hostname, address.port))
            stack.enter_context(client)
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n")
        yield Counter()


def _connect(url: str) -> http.client.HTTPConnection:
    address = urlsplit(url)
    assert address.hostname is not None
    return http.client.HTTPConnection(address.hostname, address.port, timeout=600)
