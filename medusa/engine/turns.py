"""Whose adapters the next step computes with: a decode can apply one set of them only. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from medusa.llama.adapters import AdapterSet

TURN_STEPS = 4
"""Decodes of a turn while others wait for theirs: to change adapters takes llama.cpp about as long
as one. A step that also reads prompts, which takes much longer, is a turn of its own."""


@dataclass(frozen=True)
class Turns:
    """The adapter sets of all running requests in the order of their turns; the first has its own.

    Those that come up in the meantime queue at the end, so each has its turn after one of each
    set that was there before it. `steps` counts those that the first has had.
    """

    queue: tuple[AdapterSet, ...] = ()
    steps: int = 0

    @property
    def current(self) -> AdapterSet:
        """The set to compute with; what runs has one, so there is one if anything runs."""
        return self.queue[0] if self.queue else ()

    def next(self, running: Iterable[AdapterSet]) -> Self:
        """Whose turn the next step is.

        Args:
            running: sets of the running requests, the oldest request's first.
        """
        wanted = dict.fromkeys(running)
        stay = [each for each in self.queue if each in wanted]
        queue = [*stay, *(each for each in wanted if each not in stay)]
        if self.queue and queue and queue[0] == self.queue[0]:
            if self.steps < TURN_STEPS or len(queue) == 1:
                return type(self)(tuple(queue), min(self.steps, TURN_STEPS))
            queue.append(queue.pop(0))
        return type(self)(tuple(queue))

    def used(self, *, prefilled: bool) -> Self:
        """The same after a step of the current set, which has also read prompts or not."""
        return type(self)(self.queue, TURN_STEPS if prefilled else self.steps + 1)
