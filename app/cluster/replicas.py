"""What a front knows of replicas and asks of them, whatever connects it with them."""

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.backend import Stats
from medusa.engine.events import Event
from medusa.engine.report import StepReport
from medusa.engine.requests import GenerationRequest
from medusa.engine.slot import SlotState
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.grammars.spec import GrammarSpec


class ReplicaLostError(Exception):
    """A replica has ended while it ran a request."""


@dataclass(frozen=True)
class Address:
    """A replica that is meant, by its name."""

    replica: str


@dataclass(frozen=True)
class Snapshot:
    """How a replica is doing. Steps are those since the last snapshot."""

    replica: str
    stats: Stats
    slots: Sequence[SlotState]
    steps: Sequence[StepReport]


@dataclass(frozen=True)
class Grammar:
    """A request's constraint on its way to a replica, which compiles the grammar again."""

    spec: GrammarSpec

    def __call__(self) -> TokenConstraint:
        """Constraints are made where the request runs."""
        raise AssertionError("a replica compiles the grammar before the request runs")


class Replicas(Protocol):
    """The way to the replicas."""

    @property
    def names(self) -> Sequence[str]:
        """Those that there are."""

    def of(self, request_id: str) -> str | None:
        """The replica that a request was sent to, while it runs."""

    def run(self, request: GenerationRequest) -> AsyncGenerator[Sequence[Event], None]:
        """Have a replica run a request; its events as they come. Closing it stops the request.

        Raises:
            ReplicaLostError: the replica is no more.
        """

    async def set_paused(self, replica: str, ids: Collection[str], paused: bool) -> None:
        """See Backend; nothing happens where the replica is no more."""

    async def snapshot(self, replica: str) -> Snapshot:
        """How a replica is doing, or another one if it is no more.

        Raises:
            ReplicaLostError: none answers.
        """

    async def erase(self, replica: str, slot: int) -> int:
        """See Backend.

        Raises:
            ReplicaLostError: the replica is no more.
        """
