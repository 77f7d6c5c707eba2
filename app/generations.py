"""The bridge between asyncio and the engine's thread: events of one HTTP request's generations."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from app.metrics import Metrics
from medusa.engine.engine import Engine, Ticket
from medusa.engine.requests import Delta, Event, EventSink, Failed, Finished, GenerationRequest
from medusa.errors import InvalidRequestError, QueueFullError


class Generations:
    """Runs the generations of one HTTP request and yields their events as they come.

    Creating one submits all requests or raises what `Engine.submit` raises. Whoever creates one
    must see to it that `cancel` is called in the end, whatever happens; it is harmless when all
    generations are done.
    """

    def __init__(
        self, engine: Engine, metrics: Metrics, requests: Sequence[GenerationRequest]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._metrics = metrics
        self._open = len(requests)
        self._last_token = [time.perf_counter()] * len(requests)
        self._started = [False] * len(requests)
        try:
            self._tickets: list[Ticket] = engine.submit(
                requests, [self._sink(index) for index in range(len(requests))]
            )
        except (InvalidRequestError, QueueFullError):
            metrics.requests.labels("refused").inc(len(requests))
            raise

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """(index of the request, event), until all have finished.

        Raises:
            Exception: what ended one of the generations; the others are cancelled.
        """
        try:
            while self._open:
                index, event = await self._events.get()
                self._observe(index, event)
                if isinstance(event, Failed):
                    raise event.error
                yield index, event
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Stop what is still running or waiting."""
        if self._open:
            self._metrics.requests.labels("cancelled").inc(self._open)
            self._open = 0
            for ticket in self._tickets:
                ticket.cancel()

    def _sink(self, index: int) -> EventSink:
        def sink(event: Event) -> None:
            self._loop.call_soon_threadsafe(self._events.put_nowait, (index, event))

        return sink

    def _observe(self, index: int, event: Event) -> None:
        match event:
            case Delta(tokens=tokens) if tokens:
                now = time.perf_counter()
                waited = now - self._last_token[index]
                self._last_token[index] = now
                if self._started[index]:
                    for _ in tokens:
                        self._metrics.inter_token.observe(waited / len(tokens))
                else:
                    self._started[index] = True
                    self._metrics.ttft.observe(waited)
            case Finished(reason=reason, usage=usage):
                self._open -= 1
                self._metrics.requests.labels(reason.value).inc()
                self._metrics.prompt_tokens.inc(usage.prompt_tokens)
                self._metrics.cached_tokens.inc(usage.cached_tokens)
            case Failed():
                self._open -= 1
                self._metrics.requests.labels("failed").inc()
