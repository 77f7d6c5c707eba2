"""The front's queue: whose request is next, and what becomes of those that replicas run."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from app.cluster.replicas import ReplicaLostError, Replicas
from medusa.engine.events import Delta, Event, EventSink, Failed, FailureKind, Finished
from medusa.engine.fairness import FairQueue, Tenant
from medusa.engine.requests import GenerationRequest
from medusa.errors import EngineStoppedError, InvalidRequestError, QueueFullError

log = logging.getLogger("app")

AHEAD = 2
"""So many requests are sent to a replica for each of its slots: the next one is there when a slot
becomes free, and Ray Serve, which scales by what is sent, sees that requests wait."""

ATTEMPTS = 2
"""Replicas that one request may be lost with, as it may be what ends them."""


_LOST = FailureKind.STOPPED, "the replica that ran this request has ended; others go on"
_INTERNAL = FailureKind.INTERNAL, "the request failed at the front; the server's log tells more"


@dataclass(eq=False)
class _Ticket:
    """A request, from the front's door to its last event."""

    request: GenerationRequest
    sink: EventSink
    attempts: int = 0
    has_begun: bool = False  # its owner has seen something of it
    is_closed: bool = False  # its owner sees nothing more
    paused: bool = False
    task: asyncio.Task[None] | None = None  # while a replica runs it


class Dispatcher:
    """Sends requests to replicas, as many as these can use, in the order of fairness.

    Any thread may call; events come in the loop's.

    Args:
        replicas: what runs them.
        slots: of each replica.
        max_queue: requests of each tenant that may wait.
        loop: where the front's tasks run.
    """

    def __init__(
        self, replicas: Replicas, slots: int, max_queue: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._replicas = replicas
        self._slots = slots
        self._max_queue = max_queue
        self._loop = loop
        self._lock = threading.RLock()  # of all that follows
        self._queue: FairQueue[_Ticket] = FairQueue()
        self._tickets: dict[str, _Ticket] = {}  # by the request's id, until the last event
        self._sent: set[_Ticket] = set()
        self._stopping = False

    @property
    def n_running(self) -> int:
        """Requests that have a slot, or are about to have one."""
        with self._lock:
            sent = sum(not ticket.is_closed for ticket in self._sent)
        return min(sent, self._slots * len(self._replicas.names))

    @property
    def n_waiting(self) -> int:
        """The others."""
        return len(self._tickets) - self.n_running

    def check_room(self, count: int, tenant: Tenant) -> None:
        """See Backend."""
        if self._stopping:
            raise EngineStoppedError("the server is shutting down")
        most = self._max_queue + max(self._capacity, self._slots)
        if count > most:
            raise InvalidRequestError(
                f"{count:,} sequences were asked for at once; at most {most:,} are taken"
            )
        with self._lock:
            n_waiting, idle = self._queue.waiting_of(tenant), self._capacity - self._n_active
        if n_waiting + count > self._max_queue + max(0, idle):
            raise QueueFullError(f"{n_waiting} requests are waiting for a replica")

    def submit(self, requests: Sequence[GenerationRequest], sink: EventSink) -> None:
        """See Backend; the requests can run."""
        with self._lock:
            self.check_room(len(requests), requests[0].tenant)
            ids = {request.id for request in requests}
            if len(ids) < len(requests) or ids & self._tickets.keys():
                raise InvalidRequestError("another request has the same id", field="id")
            for request in requests:
                self._tickets[request.id] = ticket = _Ticket(request, sink)
                self._queue.push(ticket, request.tenant, request.priority)
        self._soon(self.dispatch)

    def cancel(self, ids: Iterable[str]) -> None:
        """See Backend."""
        with self._lock:
            for ticket in filter(None, map(self._tickets.get, tuple(ids))):
                self._close(ticket)
        self._soon(self.dispatch)

    def set_paused(self, ids: Iterable[str], paused: bool) -> None:
        """See Backend."""
        with self._lock:
            for ticket in filter(None, map(self._tickets.get, tuple(ids))):
                ticket.paused = paused
                replica = self._replicas.of(ticket.request.id)
                if replica is not None:
                    work = self._replicas.set_paused(replica, [ticket.request.id], paused)
                    asyncio.run_coroutine_threadsafe(work, self._loop)
        self._soon(self.dispatch)

    def dispatch(self) -> None:
        """Send what may be sent now. Only the loop's thread may call."""
        with self._lock:
            free = 0 if self._stopping else self._capacity - self._n_active
            for ticket in self._queue.in_turn():
                if free <= 0:
                    break
                if ticket.paused:
                    continue
                free -= 1
                self._queue.take(ticket, read=len(ticket.request.prompt))
                self._sent.add(ticket)
                ticket.task = self._loop.create_task(self._run(ticket))

    async def close(self) -> None:
        """Take in nothing more; what is unfinished fails."""
        with self._lock:
            self._stopping = True
            tasks = [ticket.task for ticket in self._sent if ticket.task is not None]
            for ticket in tuple(self._tickets.values()):
                self._fail(ticket, FailureKind.STOPPED, "the server is shutting down")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _capacity(self) -> int:
        return AHEAD * self._slots * len(self._replicas.names)

    @property
    def _n_active(self) -> int:
        """Requests that are sent and take part in the competition for slots."""
        return sum(not ticket.paused for ticket in self._sent)

    async def _run(self, ticket: _Ticket) -> None:
        """Have a replica run a request, or put it back where none of it was seen yet."""
        ticket.attempts += 1
        failure = _LOST
        try:
            async with aclosing(self._replicas.run(ticket.request)) as batches:
                async for batch in batches:
                    for event in batch:
                        if isinstance(event, Failed) and event.kind is FailureKind.STOPPED:
                            raise ReplicaLostError(event.message)
                        self._deliver(ticket, event)
        except ReplicaLostError as error:
            log.warning("request %s has lost its replica: %s", ticket.request.id, error)
        except Exception:
            log.exception("request %s has failed at the front", ticket.request.id)
            failure, ticket.attempts = _INTERNAL, ATTEMPTS
        finally:
            with self._lock:
                self._sent.discard(ticket)
                ticket.task = None
                if not ticket.is_closed:
                    self._retry(ticket, failure)
            self.dispatch()

    def _retry(self, ticket: _Ticket, failure: tuple[FailureKind, str]) -> None:
        if ticket.has_begun or ticket.attempts >= ATTEMPTS:
            self._fail(ticket, *failure)
        else:
            self._queue.put_back(ticket, ticket.request.tenant)

    def _deliver(self, ticket: _Ticket, event: Event) -> None:
        with self._lock:
            if ticket.is_closed:
                return
            ticket.has_begun = True
            tenant = ticket.request.tenant
            match event:
                case Delta(tokens=tokens):
                    self._queue.charge(tenant, written=len(tokens))
                case Finished(usage=usage):  # what was cached has not been computed
                    self._queue.charge(tenant, read=-usage.cached_tokens)
                    self._forget(ticket)
                case Failed():
                    self._forget(ticket)
            ticket.sink(event)

    def _fail(self, ticket: _Ticket, kind: FailureKind, message: str) -> None:
        ticket.sink(Failed(ticket.request.id, kind, message))
        self._close(ticket)

    def _close(self, ticket: _Ticket) -> None:
        """Have no event of a request come any more."""
        self._forget(ticket)
        if ticket in self._sent:
            if ticket.task is not None:
                self._soon(ticket.task.cancel)
        elif ticket in self._queue:
            self._queue.remove(ticket)

    def _soon(self, action: Callable[[], object]) -> None:
        if not self._stopping:
            self._loop.call_soon_threadsafe(action)

    def _forget(self, ticket: _Ticket) -> None:
        ticket.is_closed = True
        del self._tickets[ticket.request.id]
