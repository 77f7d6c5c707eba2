"""Which replica runs what: known in a front's process, where Ray Serve's router decides it."""

import threading
from collections.abc import Collection, Iterable, Sequence

from medusa.engine.routing import PrefixAffinity, Router

REMEMBERED = 1 << 20
"""Tokens of prompts that are remembered of each replica. It may hold fewer; but of all replicas it
is the likeliest to hold what was sent to it last."""


class Fleet:
    """The replicas there are, and where requests run. Any thread may call.

    Args:
        policy: chooses among them.
    """

    def __init__(self, policy: Router) -> None:
        self.policy = policy
        self._lock = threading.Lock()
        self._names: tuple[str, ...] = ()
        self._running: dict[str, str] = {}  # the replica of each request

    @property
    def names(self) -> Sequence[str]:
        """The replicas there are."""
        return self._names

    def update(self, names: Iterable[str]) -> None:
        """Take note of the replicas there are."""
        self._names = tuple(sorted(names))

    def choose(self, request_id: str, prompt: Sequence[int], among: Collection[str]) -> str:
        """The replica that is to run a request, of some that can."""
        with self._lock:
            self._running.pop(request_id, None)
            loads = dict.fromkeys(among, 0)
            for replica in self._running.values():
                if replica in loads:
                    loads[replica] += 1
            chosen = self.policy.choose(prompt, loads)
            self._running[request_id] = chosen
            return chosen

    def sent(self, request_id: str, replica: str) -> None:
        """Take note where a request was sent, which may be elsewhere than was chosen."""
        with self._lock:
            if request_id in self._running:
                self._running[request_id] = replica

    def of(self, request_id: str) -> str | None:
        """The replica that runs a request."""
        return self._running.get(request_id)

    def ended(self, request_id: str) -> None:
        """Forget a request."""
        with self._lock:
            self._running.pop(request_id, None)


FLEET = Fleet(PrefixAffinity(REMEMBERED))
"""That of this process: Ray Serve makes its router by itself, so they can meet only here."""
