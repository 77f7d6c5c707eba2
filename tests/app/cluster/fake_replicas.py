"""Replicas without Ray and without models: each request does what the test says."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence

from app.backend import Stats
from app.cluster.replicas import ReplicaLostError, Snapshot
from medusa.engine.events import Delta, Event, Finished, FinishReason, Usage
from medusa.engine.report import StepReport
from medusa.engine.requests import GenerationRequest
from medusa.engine.slot import SlotState


def delta(request: GenerationRequest, text: str = "x", n_tokens: int = 1) -> Delta:
    return Delta(request.id, text, (7,) * n_tokens)


def finished(request: GenerationRequest, cached: int = 0, n_tokens: int = 1) -> Finished:
    usage = Usage(len(request.prompt), cached, n_tokens, 0, 0, n_tokens, 0.0, 0.0)
    return Finished(request.id, FinishReason.LENGTH, usage)


def answer(request: GenerationRequest) -> list[Event | Exception]:
    return [delta(request), finished(request)]


class FakeReplicas:
    """Requests hang until they are let go, if `holds`.

    Args:
        names: of the replicas.
        script: the events of a request, and errors between them.
    """

    def __init__(
        self,
        *names: str,
        script: Callable[[GenerationRequest], Sequence[Event | Exception]] = answer,
        holds: bool = False,
    ) -> None:
        self.names: Sequence[str] = names
        self.script = script
        self.started: list[GenerationRequest] = []
        self.stopped: list[str] = []
        self.paused: list[tuple[str, bool]] = []
        self.go_on = asyncio.Event()
        self.steps: dict[str, list[StepReport]] = {name: [] for name in names}
        if not holds:
            self.go_on.set()

    def of(self, request_id: str) -> str | None:
        running = {request.id for request in self.started} - set(self.stopped)
        return self.names[0] if request_id in running else None

    async def run(self, request: GenerationRequest) -> AsyncGenerator[Sequence[Event], None]:
        self.started.append(request)
        try:
            await self.go_on.wait()
            for event in self.script(request):
                if isinstance(event, Exception):
                    raise event
                yield [event]
        finally:
            self.stopped.append(request.id)

    async def set_paused(self, replica: str, ids: Collection[str], paused: bool) -> None:
        self.paused += [(each, paused) for each in ids]

    async def snapshot(self, replica: str) -> Snapshot:
        if replica not in self.names:
            raise ReplicaLostError(replica)
        steps, self.steps[replica] = self.steps[replica], []
        return Snapshot(replica, Stats(1, 0, 0, saved_prompts=3), [SlotState(5)], steps)

    async def erase(self, replica: str, slot: int) -> int:
        return 100 * self.names.index(replica) + slot
