"""How requests come in to an engine: from any thread, all or none, and not too many."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any
from weakref import WeakValueDictionary

from medusa.engine.config import EngineConfig
from medusa.engine.events import EventSink
from medusa.engine.fairness import EVERYBODY, FairQueue, Tenant
from medusa.engine.pooling import Pooling
from medusa.engine.prompt_cache.cache import PromptCacheStats
from medusa.engine.requests import GenerationRequest
from medusa.engine.sequence import Sequence as Running
from medusa.engine.slot import SlotState
from medusa.errors import EngineStoppedError, InvalidRequestError, QueueFullError
from medusa.llama.exactness import Exactness
from medusa.llama.model import Model


class Intake(ABC):
    """What callers see of an engine. `submit` and `cancel` are safe from any thread.

    Args:
        model: what the engine runs.
        config: sizes and limits, decided.

    Attributes:
        exactness: whether results depend on company, and why.
    """

    exactness: Exactness

    def __init__(self, model: Model, config: EngineConfig) -> None:
        self.model = model
        self.config = config
        self._inbox: list[Running] = []
        self._live: WeakValueDictionary[str, Running] = WeakValueDictionary()  # by request's id
        self._changed = threading.Condition()
        self._stopping = False

    @property
    @abstractmethod
    def max_context(self) -> int:
        """Most tokens of one request, prompt and answer together."""

    @property
    @abstractmethod
    def n_running(self) -> int:
        """Slots that are busy."""

    @property
    @abstractmethod
    def slots(self) -> Sequence[SlotState]:
        """What is going on in each slot; any thread may ask."""

    @property
    @abstractmethod
    def _queue(self) -> FairQueue[Any]:
        """Requests that the engine's thread has taken over and does not run yet."""

    @property
    def prompt_cache(self) -> PromptCacheStats:
        """What is kept of texts that left the KV cache."""
        return PromptCacheStats()

    @property
    def pooling(self) -> Pooling:
        """How texts are embedded unless a request says otherwise."""
        return self.config.pooling or Pooling(self.model.capabilities.pooling or Pooling.MEAN)

    @abstractmethod
    def _check(self, request: GenerationRequest) -> None:
        """See to it that a request can run.

        Raises:
            InvalidRequestError: it never can; names the field.
        """

    @abstractmethod
    def erase(self, slot: int) -> Future[int]:
        """Have a slot forget its cached tokens, how many of them being the result.

        It waits for what runs there to end.

        Raises:
            EngineStoppedError: the engine was closed; also as the result.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop the thread, fail what is unfinished, and free what computes. Once is enough."""

    @property
    def n_waiting(self) -> int:
        """Requests accepted but not running yet."""
        return len(self._inbox) + len(self._queue)

    def check_room(self, count: int, tenant: Tenant = EVERYBODY) -> None:
        """Ask for room before building requests: their number alone may be too much.

        Each tenant has a queue of the full length to itself.

        Raises:
            InvalidRequestError: so many can never be accepted.
            QueueFullError: the queue has no room for them now.
            EngineStoppedError: the engine was closed.
        """
        if self._stopping:
            raise EngineStoppedError("the engine has been stopped")
        most = self.config.max_queue + self.config.n_slots
        if count > most:
            raise InvalidRequestError(
                f"{count:,} sequences were asked for at once; at most {most:,} are taken"
            )
        idle = self.config.n_slots - self.n_running
        arrived = sum(each.request.tenant.name == tenant.name for each in tuple(self._inbox))
        n_waiting = arrived + self._queue.waiting_of(tenant)
        if n_waiting + count > self.config.max_queue + idle:
            raise QueueFullError(
                f"{n_waiting} requests are waiting and {self.n_running} are running"
            )

    def submit(self, requests: Sequence[GenerationRequest], sink: EventSink) -> None:
        """Queue requests of one tenant, all or none.

        Args:
            requests: what to generate.
            sink: where their events go; called in the engine's thread.

        Raises:
            InvalidRequestError: a request can never run.
            QueueFullError: the queue has no room for all of them.
            EngineStoppedError: the engine was closed.
        """
        tenant = requests[0].tenant if requests else EVERYBODY
        self.check_room(len(requests), tenant)
        for request in requests:
            self._check(request)
        sequences = [Running(r, self.model, sink, self.max_context) for r in requests]
        with self._changed:
            self.check_room(len(requests), tenant)
            self._check_ids([request.id for request in requests])
            self._inbox.extend(sequences)
            self._live.update((s.request.id, s) for s in sequences)
            self._changed.notify()

    def cancel(self, ids: Iterable[str]) -> None:
        """Stop requests at the next step. No event of theirs comes then any more.

        Args:
            ids: of requests; those that have ended or never were do not matter.
        """
        with self._changed:
            for request_id in ids:
                sequence = self._live.get(request_id)
                if sequence is not None:
                    sequence.cancel()
            self._changed.notify()

    def set_paused(self, ids: Iterable[str], paused: bool) -> None:
        """Let others have the slots of requests whose owner cannot keep up, or let them go on.

        From the next step on; a paused request waits in the queue, and goes on from where it was.

        Args:
            ids: as for `cancel`.
            paused: whether they are to wait.
        """
        with self._changed:
            for request_id in ids:
                sequence = self._live.get(request_id)
                if sequence is not None:
                    sequence.paused = paused
            self._changed.notify()

    def _check_ids(self, ids: Sequence[str]) -> None:
        live = [self._live.get(request_id) for request_id in ids]
        if len(set(ids)) < len(ids) or any(s is not None and not s.output.closed for s in live):
            raise InvalidRequestError("another request has the same id", field="id")
