"""A backend whose engines are replicas elsewhere; texts are read and written here, at the front."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from app.backend import Stats
from app.cluster.dispatcher import Dispatcher
from app.cluster.replicas import Grammar, ReplicaLostError, Replicas, Snapshot
from app.door.limits import RequestLimits
from app.model_info import ModelInfo
from app.texts import Texts
from medusa.engine.events import EventSink
from medusa.engine.fairness import Tenant
from medusa.engine.report import StepObserver
from medusa.engine.requests import GenerationRequest
from medusa.engine.slot import SlotState
from medusa.engine.validation import check_embedding, check_request
from medusa.errors import EngineStoppedError, InvalidRequestError
from medusa.loading import Language
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.grammars.spec import GrammarSpec

log = logging.getLogger("app")

WATCH_SECONDS = 0.5
"""Between looks at how replicas are doing."""

_PATIENCE_SECONDS = 10.0
"""For a replica's word."""


class ClusterBackend(Texts):
    """See Backend.

    Args:
        replicas: what computes.
        language: reads and writes texts; is closed with the backend.
        info: a replica's word on the model.
        limits: of texts that are tokenised, and of grammars.
        max_queue: requests of each tenant that may wait.
        observer: told of the steps of all replicas.
    """

    def __init__(
        self,
        replicas: Replicas,
        language: Language,
        info: ModelInfo,
        *,
        limits: RequestLimits,
        max_queue: int,
        observer: StepObserver,
    ) -> None:
        super().__init__(language, info, limits)
        self._replicas = replicas
        self._of_each = info
        self._observer = observer
        self._snapshots: dict[str, Snapshot] = {}
        self._loop = asyncio.new_event_loop()
        self._dispatcher = Dispatcher(replicas, info.n_slots, max_queue, self._loop)
        self._thread = threading.Thread(target=self._loop.run_forever, name="front", daemon=True)
        self._thread.start()
        self._watching = asyncio.run_coroutine_threadsafe(self._watch(), self._loop)

    def check_room(self, count: int, tenant: Tenant) -> None:
        """See Backend."""
        self._dispatcher.check_room(count, tenant)

    def submit(self, requests: Sequence[GenerationRequest], sink: EventSink) -> None:
        """See Backend."""
        for request in requests:
            self._check(request)
        self._dispatcher.submit(requests, sink)

    def cancel(self, ids: Iterable[str]) -> None:
        """See Backend."""
        self._dispatcher.cancel(ids)

    def set_paused(self, ids: Iterable[str], paused: bool) -> None:
        """See Backend."""
        self._dispatcher.set_paused(ids, paused)

    def stats(self) -> Stats:
        """See Backend."""
        each = [snapshot.stats for snapshot in self._known]
        return Stats(
            self.info.n_slots,
            self._dispatcher.n_running,
            self._dispatcher.n_waiting,
            sum(stats.saved_prompts for stats in each),
            sum(stats.saved_bytes for stats in each),
        )

    def slots(self) -> Sequence[SlotState]:
        """See Backend; of one replica after the other, as they were a moment ago."""
        return [slot for snapshot in self._known for slot in snapshot.slots]

    async def erase(self, slot: int) -> int:
        """See Backend."""
        number, own = divmod(slot, self._of_each.n_slots)
        names = [snapshot.replica for snapshot in self._known]
        if number >= len(names):
            raise InvalidRequestError(f"there is no slot {slot}")
        erasing = self._replicas.erase(names[number], own)
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(erasing, self._loop))
        except ReplicaLostError as error:
            raise EngineStoppedError(str(error)) from error

    async def constraint(self, spec: GrammarSpec) -> Callable[[], TokenConstraint]:
        """See Backend; compiled here to tell what is wrong, and again where it is needed."""
        await super().constraint(spec)
        return Grammar(spec)

    def close(self) -> None:
        """See Backend."""
        self._watching.cancel()
        asyncio.run_coroutine_threadsafe(self._dispatcher.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        super().close()
        self._language.close()

    def _check(self, request: GenerationRequest) -> None:
        model, info = self._language.model, self._of_each
        if info.generates:
            check_request(request, model, info.max_context)
        else:
            check_embedding(request, model, info.max_context, info.pooling)

    @property
    def _known(self) -> list[Snapshot]:
        snapshots = map(self._snapshots.get, self._replicas.names)
        return [snapshot for snapshot in snapshots if snapshot is not None]

    async def _watch(self) -> None:
        """Look after the replicas, again and again."""
        while True:
            names = self._replicas.names
            await asyncio.gather(*map(self._look_at, names))
            self._snapshots = {n: s for n, s in self._snapshots.items() if n in names}
            self.info = replace(self._of_each, n_slots=self._of_each.n_slots * len(names))
            self._dispatcher.dispatch()
            await asyncio.sleep(WATCH_SECONDS)

    async def _look_at(self, name: str) -> None:
        """Ask a replica how it is doing; it may have ended, or hang."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                snapshot = await self._replicas.snapshot(name)
        except Exception as error:
            log.warning("no word of replica %s: %r", name, error)
            return
        self._snapshots[snapshot.replica] = snapshot
        for report in snapshot.steps:
            self._observer(report)
