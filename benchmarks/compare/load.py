"""The load generator, a process of its own: a job a line in, what became of it a line out."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import aiohttp
from pydantic import TypeAdapter

from benchmarks.compare.prompts import Prompt

_TIMEOUT = aiohttp.ClientTimeout(total=600)


@dataclass(frozen=True)
class Job:
    """Conversations to have with a server.

    Attributes:
        url: the server's, without `/v1`.
        model: its name there.
        prompts: what is asked.
        starts: for each, seconds from the beginning until it may be sent.
        clients: conversations at a time, at most.
        max_tokens: of an answer.
    """

    url: str
    model: str
    prompts: tuple[Prompt, ...]
    starts: tuple[float, ...]
    clients: int
    max_tokens: int


@dataclass(frozen=True)
class Answer:
    """One turn's. Times in seconds since the request was sent.

    Attributes:
        text: what was written, names and arguments of tool calls included.
        completion_tokens: as the server tells, None where it does not.
        finish_reason: likewise.
        first, last: when the first and the last piece of text came.
        gaps: between one piece and the next.
        error: what went wrong, "" if nothing did.
    """

    text: str
    completion_tokens: int | None
    finish_reason: str | None
    first: float
    last: float
    gaps: tuple[float, ...]
    error: str = ""


@dataclass(frozen=True)
class Burst:
    """All answers of a job, by prompt and turn, and what the generator itself took."""

    answers: tuple[Answer, ...]
    seconds: float
    cpu_seconds: float


_JOB = TypeAdapter(Job)
_BURST = TypeAdapter(Burst)


class Generator:
    """Sends jobs to the generator's process."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def run(self, job: Job) -> Burst:
        """Wait until all is answered.

        Raises:
            RuntimeError: the generator has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(_JOB.dump_json(job) + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator has ended")
        return _BURST.validate_json(line)


@contextmanager
def generator() -> Iterator[Generator]:
    """A load generator while the context lasts."""
    command = [sys.executable, "-m", "benchmarks.compare.load"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Generator(process)


async def burst(job: Job) -> Burst:
    """Have all conversations of a job."""
    free = asyncio.Semaphore(job.clients)
    began, cpu = time.perf_counter(), time.process_time()

    async def converse(prompt: Prompt, start: float) -> list[Answer]:
        await asyncio.sleep(start - (time.perf_counter() - began))
        async with free:
            return [answer async for answer in _conversation(session, job, prompt)]

    # A connection for each request: servers close idle ones at different times, and one that is
    # closed just as it is used again would count as a failure of its server.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:
        pairs = zip(job.prompts, job.starts, strict=True)
        found = await asyncio.gather(*(converse(*pair) for pair in pairs))
    answers = tuple(answer for some in found for answer in some)
    return Burst(answers, time.perf_counter() - began, time.process_time() - cpu)


async def _conversation(
    session: aiohttp.ClientSession, job: Job, prompt: Prompt
) -> AsyncIterator[Answer]:
    messages: list[dict[str, str]] = []
    for turn in prompt.turns:
        messages.append({"role": "user", "content": turn})
        answer = await _ask(session, job, messages, prompt)
        messages.append({"role": "assistant", "content": answer.text})
        yield answer


async def _ask(
    session: aiohttp.ClientSession, job: Job, messages: list[dict[str, str]], prompt: Prompt
) -> Answer:
    body = {
        "model": job.model,
        "messages": messages,
        "max_tokens": job.max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        **prompt.fields,
    }
    seen = _Seen(time.perf_counter())
    try:
        async with session.post(f"{job.url}/v1/chat/completions", json=body) as response:
            if response.status != 200:
                return seen.answer(f"{response.status} {(await response.text())[:200]}")
            async for line in response.content:
                if line.startswith(b"data:") and (data := line[5:].strip()) != b"[DONE]":
                    seen.add(json.loads(data))
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return seen.answer(repr(error))
    return seen.answer("" if seen.finish_reason else "the stream ended early")


class _Seen:
    """Gathers the chunks of one stream."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._texts: list[str] = []
        self._times: list[float] = []
        self._tokens: int | None = None
        self.finish_reason: str | None = None

    def add(self, chunk: dict[str, Any]) -> None:
        """A chunk that comes now. Raises ValueError if it tells of an error."""
        if "error" in chunk:
            raise ValueError(chunk["error"])
        if usage := chunk.get("usage"):
            self._tokens = usage["completion_tokens"]
        for choice in chunk.get("choices", ()):
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            if text := _text(choice.get("delta") or {}):
                self._texts.append(text)
                self._times.append(time.perf_counter() - self._began)

    def answer(self, error: str) -> Answer:
        times = self._times or [time.perf_counter() - self._began]
        gaps = tuple(later - earlier for earlier, later in pairwise(times))
        text = "".join(self._texts)
        return Answer(text, self._tokens, self.finish_reason, times[0], times[-1], gaps, error)


def _text(delta: dict[str, Any]) -> str:
    calls = [call.get("function") or {} for call in delta.get("tool_calls") or ()]
    parts = [part for call in calls for part in (call.get("name"), call.get("arguments"))]
    return "".join(part or "" for part in (delta.get("content"), *parts))


def _serve() -> None:
    for line in sys.stdin.buffer:
        found = asyncio.run(burst(_JOB.validate_json(line)))
        sys.stdout.buffer.write(_BURST.dump_json(found) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
