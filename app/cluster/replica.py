"""A replica: an engine in a process of its own that Ray Serve starts, watches and ends."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import replace

from ray import serve

from app.backend import LocalBackend
from app.cli.loading import open_files
from app.cli.names import find_model
from app.cli.terminal import set_up_logging
from app.cluster.replicas import Address, Grammar, Snapshot
from app.model_info import ModelInfo
from app.settings.cluster import ClusterSettings
from medusa.engine.events import Event, Failed, Finished
from medusa.engine.report import StepReport
from medusa.engine.requests import GenerationRequest
from medusa.engine.slot import SlotState
from medusa.errors import EngineStoppedError

log = logging.getLogger("app")

_KEPT_STEPS = 100_000
"""Reports that wait for a front to ask for them; the oldest go first."""


class Replica:
    """Hosts a backend. Its methods are called by fronts, over Ray.

    Args:
        settings: the model, and how it is run.
    """

    def __init__(self, settings: ClusterSettings) -> None:
        set_up_logging(settings.verbose, settings.log_format)
        self._name = serve.get_replica_context().replica_id.unique_id
        self._steps: deque[StepReport] = deque(maxlen=_KEPT_STEPS)
        files = find_model(settings.model, settings)
        loaded = open_files(files, settings, self._steps.append, name=settings.model_name)
        self._backend = LocalBackend(loaded, settings.sampling, settings.limits)

    def info(self) -> ModelInfo:
        """What there is to know of the model."""
        return self._backend.info

    async def run(self, request: GenerationRequest) -> AsyncGenerator[Sequence[Event], None]:
        """Run a request; its events as they come, those of the same moment together.

        It ends when the caller does not wait any more.
        """
        if isinstance(request.constraint, Grammar):
            constraint = await self._backend.constraint(request.constraint.spec)
            request = replace(request, constraint=constraint)
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[Event] = asyncio.Queue()

        def sink(event: Event) -> None:
            loop.call_soon_threadsafe(arrived.put_nowait, event)

        try:
            self._backend.submit([request], sink)
            while True:
                batch = [await arrived.get()]
                while not arrived.empty():
                    batch.append(arrived.get_nowait())
                yield batch
                if isinstance(batch[-1], Finished | Failed):
                    return
        finally:
            self._backend.cancel([request.id])

    async def set_paused(self, to: Address, ids: Collection[str], paused: bool) -> None:
        """See Backend."""
        self._backend.set_paused(ids, paused)

    async def erase(self, to: Address, slot: int) -> int:
        """See Backend.

        Raises:
            EngineStoppedError: another replica was meant, which has gone.
        """
        if to.replica != self._name:
            raise EngineStoppedError(f"the replica {to.replica} has gone")
        return await self._backend.erase(slot)

    async def snapshot(self, to: Address) -> Snapshot:
        """How it is doing."""
        steps = [self._steps.popleft() for _ in range(len(self._steps))]
        slots = [_without_texts(slot) for slot in self._backend.slots()]
        return Snapshot(self._name, self._backend.stats(), slots, steps)

    def __del__(self) -> None:
        """Stop the engine, as Ray Serve asks once all requests have ended."""
        if hasattr(self, "_backend"):
            self._backend.close()


def _without_texts(slot: SlotState) -> SlotState:
    """What is told of a slot; a constraint could not leave its process."""
    if slot.request is None:
        return slot
    request = replace(slot.request, prompt=(), prediction=(), constraint=None)
    return replace(slot, request=request)
