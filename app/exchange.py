"""The bridge between asyncio and a backend's thread: the events of one HTTP request."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any, Self, TypeVar

from starlette.requests import Request

from app.access_log import count_tokens
from app.auth import Client
from app.backend import Backend
from app.metrics import Metrics
from medusa.engine.client import Generated
from medusa.engine.events import (
    Delta,
    Event,
    Failed,
    FailureKind,
    Finished,
    PromptScored,
    TokenLogprob,
)
from medusa.engine.requests import GenerationRequest
from medusa.errors import (
    CostlyGrammarError,
    EngineStoppedError,
    GenerationFailedError,
    InvalidRequestError,
    MedusaError,
    NotNumbersError,
)

T = TypeVar("T")

_ERRORS: Mapping[FailureKind, type[MedusaError]] = {
    FailureKind.STOPPED: EngineStoppedError,
    FailureKind.NOT_NUMBERS: NotNumbersError,
    FailureKind.COSTLY_GRAMMAR: CostlyGrammarError,
    FailureKind.NOTHING_ALLOWED: InvalidRequestError,
    FailureKind.INTERNAL: GenerationFailedError,
}
_FRAME_BYTES, _LOGPROB_BYTES = 250, 100  # about what an event and a log probability are as JSON


class ClientGoneError(Exception):
    """The client closed the connection before its answer was ready."""


class Exchange:
    """Runs the generations of one HTTP request and yields their events as they come.

    `start` makes one. Whoever has one must see to it that `cancel` is called in the end, whatever
    happens; it is harmless when all generations are done.

    A client that reads more slowly than its answer is made gets it all, but has no slot while more
    than `buffer` bytes wait for it.

    Args:
        backend: what runs the requests.
        metrics: where they are counted.
        client: whose they are.
        requests: what to run.
        buffer: about so many bytes are held before the generations are paused.
    """

    def __init__(
        self,
        backend: Backend,
        metrics: Metrics,
        client: Client,
        requests: Sequence[GenerationRequest],
        buffer: int,
    ) -> None:
        self._backend = backend
        self._metrics = metrics
        self._client = client
        self._index = {request.id: index for index, request in enumerate(requests)}
        self._open = set(self._index)
        self._events: asyncio.Queue[tuple[Event, int]] = asyncio.Queue()  # with their sizes
        self._buffer = buffer
        self._unread = 0  # bytes
        self._paused = False
        self._last_token = dict.fromkeys(self._index, time.perf_counter())
        self._started: set[str] = set()
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def start(
        cls,
        backend: Backend,
        metrics: Metrics,
        client: Client,
        requests: Sequence[GenerationRequest],
        buffer: int,
    ) -> Self:
        """Submit requests, beside the event loop: many long prompts take a while.

        Raises:
            Exception: what `Backend.submit` raises; then none of them runs.
        """
        exchange = cls(backend, metrics, client, requests, buffer)
        await asyncio.to_thread(backend.submit, requests, exchange._sink)
        exchange._count("prompt", sum(map(len, {request.prompt for request in requests})))
        return exchange

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """(index of the request, event), until all have finished.

        Raises:
            EngineStoppedError: the server is shutting down.
            NotNumbersError: the model computed what is none, and the others are cancelled.
            CostlyGrammarError, InvalidRequestError: one asked for what cannot be done; likewise.
            GenerationFailedError: one of the generations failed; the others are cancelled.
        """
        try:
            while self._open:
                event, size = await self._events.get()
                self._unread -= size
                if self._paused and self._unread <= self._buffer // 2:
                    self._set_paused(False)
                self._observe(event)
                if isinstance(event, Failed):
                    raise _ERRORS[event.kind](event.message)
                yield self._index[event.request_id], event
        finally:
            self.cancel()

    async def gather(self) -> list[Generated]:
        """Wait for all generations.

        Raises:
            MedusaError: see `events`.
        """
        generated = [Generated() for _ in self._index]
        async for index, event in self.events():
            generated[index].add(event)
        return generated

    def cancel(self) -> None:
        """Stop what is still running or waiting."""
        if self._open:
            self._metrics.requests.labels("cancelled").inc(len(self._open))
            self._backend.cancel(self._open)
            self._open = set()

    async def while_connected(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, but end it and the generations when the client goes away.

        Raises:
            ClientGoneError: the client went away first.
        """
        answer = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise ClientGoneError
        finally:
            gone.cancel()
            answer.cancel()
            self.cancel()

    def _sink(self, event: Event) -> None:
        self._loop.call_soon_threadsafe(self._take_in, event)

    def _take_in(self, event: Event) -> None:
        size = size_of(event)
        self._events.put_nowait((event, size))
        self._unread += size
        if self._unread > self._buffer and not self._paused:
            self._metrics.pauses.inc()
            self._set_paused(True)

    def _set_paused(self, paused: bool) -> None:
        self._paused = paused
        self._backend.set_paused(self._open, paused)

    def _count(self, kind: str, n_tokens: int) -> None:
        """Count tokens as the client's."""
        self._client.meter.spend(n_tokens)
        self._metrics.client_tokens.labels(self._client.tenant.name, kind).inc(n_tokens)

    def _observe(self, event: Event) -> None:
        key = event.request_id
        match event:
            case Delta(tokens=tokens) if tokens:
                count_tokens(completion=len(tokens))
                self._count("completion", len(tokens))
                now = time.perf_counter()
                waited = now - self._last_token[key]
                self._last_token[key] = now
                if key in self._started:
                    for _ in tokens:
                        self._metrics.inter_token.observe(waited / len(tokens))
                else:
                    self._started.add(key)
                    self._metrics.ttft.observe(waited)
            case Finished(reason=reason, usage=usage):
                self._open.remove(key)
                count_tokens(prompt=usage.prompt_tokens)
                self._metrics.observe_end(reason, usage)
            case Failed(kind=kind):
                self._open.remove(key)
                self._metrics.requests.labels("failed").inc()
                if kind is FailureKind.NOT_NUMBERS:
                    self._metrics.not_numbers.inc()


def size_of(event: Event) -> int:
    """About how many bytes an event becomes."""
    match event:
        case Delta(text=text, logprobs=entries):
            return _FRAME_BYTES + len(text) + _LOGPROB_BYTES * _n_logprobs(entries)
        case PromptScored(logprobs=entries):
            return _FRAME_BYTES + _LOGPROB_BYTES * _n_logprobs(entries)
    return _FRAME_BYTES


def _n_logprobs(entries: Sequence[TokenLogprob | None]) -> int:
    return sum(1 + len(entry.top) for entry in entries if entry is not None)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
