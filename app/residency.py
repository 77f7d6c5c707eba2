"""Which models stay in memory, and which gives way to another one (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar


@dataclass(frozen=True)
class Room:
    """Bytes of memory: of the machine, and of its GPUs together."""

    host: int = 0
    gpus: int = 0

    def __add__(self, other: Room) -> Room:
        return Room(self.host + other.host, self.gpus + other.gpus)

    def fits(self, into: Room) -> bool:
        """Whether there is so much."""
        return self.host <= into.host and self.gpus <= into.gpus

    def __str__(self) -> str:
        on_gpus = f" and {self.gpus / 2**30:.1f} GiB on GPUs" if self.gpus else ""
        return f"{self.host / 2**30:.1f} GiB{on_gpus}"


@dataclass(frozen=True)
class Limits:
    """What may be in memory.

    Attributes:
        models: so many at a time; None: as many as fit.
        room: what they may take together; None: unknown, or it does not matter.
        idle: seconds after which a model that nobody uses is unloaded; None: never.
    """

    models: int | None = None
    room: Room | None = None
    idle: float | None = None

    def __str__(self) -> str:
        if self.models is not None:
            return f"{self.models} at a time"
        return "all at a time" if self.room is None else f"as many as fit into {self.room}"


class Resident(Protocol):
    """A model in memory."""

    @property
    def needs(self) -> Room:
        """What it takes."""

    @property
    def n_users(self) -> int:
        """Who uses it or waits for it."""

    @property
    def last_used(self) -> float:
        """When it was used last, in seconds of a clock."""


AnyResident = TypeVar("AnyResident", bound=Resident)


def gives_way(residents: Iterable[AnyResident], needs: Room, limits: Limits) -> AnyResident | None:
    """The model to unload before another one is loaded; None: there is room, or nothing to unload.

    Those that nobody uses come first, the one that was used longest ago before others.

    Args:
        residents: what is in memory.
        needs: what the other one takes.
        limits: what may be in memory.
    """
    residents = list(residents)
    is_full = limits.models is not None and len(residents) >= limits.models
    taken = sum((each.needs for each in residents), needs)
    if is_full or (limits.room is not None and not taken.fits(limits.room)):
        return min(residents, key=lambda each: (each.n_users > 0, each.last_used), default=None)
    return None
