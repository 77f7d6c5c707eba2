"""Clients that talk: a shared beginning, turns, and a pause before each."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from medusa.engine.fairness import EVERYBODY, Tenant
from medusa.engine.requests import GenerationRequest


@dataclass(frozen=True)
class Habits:
    """What conversations are like. Lengths in tokens, drawn from an exponential distribution with
    these means, as is the pause (in seconds) before a message; beginnings are all as long."""

    beginnings: int = 8  # system prompts, of which each conversation has one
    beginning: int = 256
    message: int = 40
    answer: int = 24
    turns: int = 4
    pause: float = 1.0


@dataclass
class Client:
    """Somebody with one conversation at a time.

    Args:
        number: its own.
        habits: what it says.
        dice: its own.
        tenant: whose tokens it spends.
        group: under which what it gets is counted.
    """

    number: int
    habits: Habits
    dice: random.Random
    tenant: Tenant = EVERYBODY
    group: str = ""
    _said: list[int] = field(default_factory=list)
    _turn: int = 0
    _unique: int = 0

    def pause(self) -> float:
        """Seconds before its next message."""
        return self.dice.expovariate(1 / self.habits.pause) if self.habits.pause else 0.0

    def ask(self) -> GenerationRequest:
        """Its next message, with all that was said before."""
        habits = self.habits
        if self._turn % habits.turns == 0:
            kind = self.dice.randrange(habits.beginnings)
            self._said = list(range(-(kind + 1) * habits.beginning, -kind * habits.beginning))
        self._turn += 1
        self._said = [*self._said, *self._message(self._length(habits.message))]
        return replace(
            _REQUEST,
            prompt=tuple(self._said),
            max_tokens=self._length(habits.answer),
            tenant=self.tenant,
            id=f"{self.number}-{self._turn}",
        )

    def hear(self, tokens: Sequence[int]) -> None:
        """Take in the conversation with its answer."""
        self._said = list(tokens)

    def _message(self, length: int) -> range:
        """Tokens that nobody else says, nor it itself again."""
        start = _FIRST + self.number * _MOST_SAID + self._unique
        self._unique += length
        assert self._unique <= _MOST_SAID
        return range(start, start + length)

    def _length(self, mean: int) -> int:
        return 1 + round(self.dice.expovariate(1 / (mean - 1))) if mean > 1 else 1


_FIRST = 1000  # what clients say are other tokens than those of answers
_MOST_SAID = 100_000  # by one client; token ids have 31 bits
_REQUEST = GenerationRequest(prompt=())
