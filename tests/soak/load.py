"""Clients that ask for all kinds of things, some of whom leave, and what becomes of them."""

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

CANCELLED = 0.2
"""Part of the requests whose clients leave."""

_WORDS = (
    *("the", "old", "lighthouse", "keeper", "counted", "ships", "and", "stars"),
    *("until", "morning", "came", "with", "rain"),
)
_PHASES = (0.0, 0.02, 0.2, 1.0)  # seconds after which clients leave: queue, prefill, stream
_CHECKED = 0.15  # part of the requests that are references


@dataclass
class Record:
    """What came of all requests."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Load:
    """Clients of a server. References are answered alone before, and compared to the bit.

    Args:
        url: of the server.
        seed: for the same requests again.
    """

    def __init__(self, url: str, seed: int) -> None:
        self.record = Record()
        self._url = url
        self._seed = seed
        dice = random.Random(f"references-{seed}")
        self._references = [body(dice) | {"stream": False} for _ in range(8)]
        self._expected: list[Any] = []

    async def run(self, clients: int, seconds: float) -> None:
        """Let so many clients ask, one request after the other, for so long."""
        async with httpx.AsyncClient(base_url=self._url, timeout=None, limits=_NO_LIMITS) as http:
            self._expected = [await _answer(http, reference) for reference in self._references]
            end = asyncio.get_running_loop().time() + seconds
            async with asyncio.TaskGroup() as group:
                for number in range(clients):
                    group.create_task(self._client(http, number, end))
            for reference, expected in zip(self._references, self._expected, strict=True):
                self._compare(await _answer(http, reference), expected, "afterwards")

    async def _client(self, http: httpx.AsyncClient, number: int, end: float) -> None:
        dice = random.Random(f"{self._seed}-{number}")
        while asyncio.get_running_loop().time() < end:
            if dice.random() < CANCELLED:
                await self._leave(http, body(dice), dice.choice(_PHASES))
            elif dice.random() < _CHECKED:
                index = dice.randrange(len(self._references))
                answer = await _answer(http, self._references[index])
                self._compare(answer, self._expected[index], f"client {number}")
                self.record.counts["references"] += 1
            else:
                await self._ask(http, body(dice))

    async def _leave(self, http: httpx.AsyncClient, asked: dict[str, Any], after: float) -> None:
        try:
            async with asyncio.timeout(after):
                await self._ask(http, asked)
        except TimeoutError:
            self.record.counts["cancelled"] += 1

    async def _ask(self, http: httpx.AsyncClient, asked: dict[str, Any]) -> None:
        async with http.stream("POST", "/v1/completions", json=asked) as answer:
            text = (await answer.aread()).decode()
        if answer.status_code == 503 and "Retry-After" in answer.headers:
            self.record.counts["refused for now"] += 1
        elif answer.status_code != 200 or not _is_whole(text, asked):
            self.record.wrong.append(f"{asked}: {answer.status_code} {text[-200:]!r}")
        else:
            self.record.counts["answered"] += 1

    def _compare(self, actual: Any, expected: Any, who: str) -> None:
        if actual != expected:
            self.record.wrong.append(f"{who}: a reference differs: {actual} instead of {expected}")


_NO_LIMITS = httpx.Limits(max_connections=None)


def body(dice: random.Random) -> dict[str, Any]:
    """A request of any kind, reproducible by its seed."""
    made: dict[str, Any] = {
        "prompt": " ".join(dice.choices(_WORDS, k=dice.choice((1, 5, 20, 120, 400)))),
        "max_tokens": dice.choice((1, 8, 30, 80)),
        "temperature": dice.choice((0, 0, 0.8, 1.1)),
        "seed": dice.randrange(1000),
        "stream": dice.random() < 0.6,
        "ignore_eos": dice.random() < 0.5,
        "n": dice.choice((1, 1, 1, 2)),
    }
    if dice.random() < 0.3:
        made |= {"logprobs": 3, "echo": dice.random() < 0.5}
    if dice.random() < 0.3:
        made |= {"top_p": 0.9, "top_k": 40, "repetition_penalty": 1.1, "presence_penalty": 0.3}
    if dice.random() < 0.2:
        made["stop"] = [dice.choice(_WORDS), "\n"]
    return made


async def _answer(http: httpx.AsyncClient, asked: dict[str, Any]) -> Any:
    """The choices of a whole answer; a busy server is asked again."""
    while True:
        answer = await http.post("/v1/completions", json=asked)
        if answer.status_code != 503:
            return answer.json().get("choices", answer.text)
        await asyncio.sleep(0.5)


def _is_whole(text: str, asked: dict[str, Any]) -> bool:
    """Whether every choice has come to its end."""
    if not asked["stream"]:
        choices = json.loads(text)["choices"]
    else:
        if not text.endswith("data: [DONE]\n\n"):
            return False
        lines = [line.removeprefix("data: ") for line in text.splitlines() if "{" in line]
        choices = [choice for line in lines for choice in json.loads(line).get("choices", ())]
    ended = {choice["index"] for choice in choices if choice["finish_reason"]}
    return len(ended) == asked["n"]
