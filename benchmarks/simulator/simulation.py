"""Clients, a router and replicas as discrete events in virtual time, the same for the same dice."""

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from benchmarks.simulator.clients import Client
from benchmarks.simulator.replica import Replica, sequence_of
from medusa.engine.routing import Router
from medusa.engine.sequence import Sequence as Running


@dataclass
class Served:
    """A request, and what became of it. Times in seconds since the beginning."""

    client: Client
    replica: int
    n_prompt: int
    asked: int  # tokens
    arrived: float
    first: float | None = None  # its first token
    ended: float | None = None
    written: int = 0
    cached: int = 0


@dataclass
class Outcome:
    """What happened, from an empty system to an empty one."""

    served: list[Served] = field(default_factory=list)  # by arrival
    written: list[tuple[float, Counter[str]]] = field(default_factory=list)
    """At each moment that a step ended, tokens by the group of the client."""
    request_seconds: float = 0.0
    """Integral of the number of requests in the system over time."""
    seconds: float = 0.0


class Simulation:
    """A fleet and its clients.

    Args:
        fleet: the replicas.
        router: chooses among them.
        clients: each asks, waits for the answer, pauses, and asks again.
        n_requests: so many are asked in all.
    """

    def __init__(
        self, fleet: Sequence[Replica], router: Router, clients: Sequence[Client], n_requests: int
    ) -> None:
        self._fleet = fleet
        self._router = router
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._now = 0.0
        self._left = n_requests
        self._in_flight: dict[Running, Served] = {}
        self._outcome = Outcome()
        for client in clients:
            self._after(client.pause(), partial(self._ask, client))

    def run(self) -> Outcome:
        """Let all of it happen."""
        while self._events:
            time, _, action = heapq.heappop(self._events)
            self._outcome.request_seconds += (time - self._now) * len(self._in_flight)
            self._now = time
            action()
        self._outcome.seconds = self._now
        return self._outcome

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._numbers), action))

    def _ask(self, client: Client) -> None:
        if not self._left:
            return
        self._left -= 1
        request = client.ask()
        loads = {number: replica.load for number, replica in enumerate(self._fleet)}
        chosen = self._router.choose(request.prompt, loads)
        running = sequence_of(request, self._now)
        served = Served(client, chosen, len(request.prompt), running.max_tokens, arrived=self._now)
        self._in_flight[running] = served
        self._outcome.served.append(served)
        self._fleet[chosen].submit(running)
        self._go_on(self._fleet[chosen])

    def _go_on(self, replica: Replica) -> None:
        if replica.is_idle:
            self._after(replica.begin(), partial(self._end_step, replica))

    def _end_step(self, replica: Replica) -> None:
        tokens: Counter[str] = Counter()
        for running, n_tokens in replica.end():
            served = self._in_flight[running]
            tokens[served.client.group] += n_tokens
            served.written += n_tokens
            served.first = self._now if served.first is None else served.first
            if running.is_complete:
                self._end(running)
        self._outcome.written.append((self._now, tokens))
        self._go_on(replica)

    def _end(self, running: Running) -> None:
        served = self._in_flight.pop(running)
        served.ended, served.cached = self._now, running.output.cached_tokens
        served.client.hear(running.tokens)
        self._after(served.client.pause(), partial(self._ask, served.client))
