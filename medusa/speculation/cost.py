"""What a step costs by the number of tokens in its decode: measured at the start, kept current."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from statistics import median
from typing import Protocol

_SIZES = (1, 2, 4, 8, 16, 32, 64)
_ROUNDS = 3
_RUN = 3
"""Decodes of one size after the other: after a change llama.cpp plans the first one anew, and a GPU
records the second one to repeat it from then on."""
_MEASURING_SECONDS = 1.0
_RATE, _RATE_DOWN = 0.1, 0.3
"""How fast the figures follow. Other work can only make a decode look slower than it is, so one
that was faster than expected counts for more."""
OUTLIER = 3.0
"""Slower than that many times what was expected, a decode was held up by something else."""


class StepCost(Protocol):
    """What a step costs."""

    @property
    def change_seconds(self) -> float:
        """What it costs if a step has another size than the one before, changes back included."""
        ...

    def seconds(self, n_tokens: int) -> float:
        """Time of a whole step whose decode has so many tokens."""
        ...


class FixedCost:
    """Every step takes the same time, so that all guesses pay: trees do not depend on a machine."""

    change_seconds = 0.0

    def seconds(self, _n_tokens: int) -> float:
        """As `StepCost.seconds`."""
        return 1.0


class MeasuredCost:
    """Time of a step, interpolated between measured sizes.

    Args:
        sizes: tokens in a decode, ascending.
        seconds: how long each took.
        change_seconds: how much longer it takes after a decode of another size, for which
            llama.cpp builds its graph anew.
        settling_seconds: how much longer the one after that takes.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        seconds: Sequence[float],
        change_seconds: float = 0.0,
        settling_seconds: float = 0.0,
    ) -> None:
        self._change = change_seconds
        self._settling = settling_seconds
        self._changes_again = 0.0  # how often a change follows a change
        self._has_changed = False
        self._last_size = 0
        self._sizes = list(sizes)
        self._inner = self._sizes[1:-1]
        self._seconds = list(seconds)
        for place in range(len(self._sizes)):
            self._cut_by(place)
        self._beside = 0.0

    @classmethod
    def measure(cls, decode: Callable[[int], float], largest: int) -> "MeasuredCost":
        """Take the time of decodes of several sizes, for about a second.

        All sizes have their turn in each round: a bad moment, as when the threads have not spread
        over the cores yet, then costs every size one of its rounds instead of one size all.

        Args:
            decode: decodes that many tokens and returns the seconds it took.
            largest: most tokens in a step.
        """
        sizes = [size for size in _SIZES if size < largest] + [largest]
        decode(1)  # the first one also warms up
        best: dict[int, float] = {}
        changes: list[float] = []
        settlings: list[float] = []
        spent = 0.0
        for size in sizes * _ROUNDS:
            run: list[float] = []
            while len(run) < _RUN and spent <= _MEASURING_SECONDS:
                run.append(decode(size))
                spent += run[-1]
                best[size] = min(best.get(size, run[-1]), run[-1])
            if len(run) == _RUN:
                changes.append(run[0] - run[-1])
                settlings.append(run[1] - run[-1])
        change, settling = (max(0.0, median(each or [0.0])) for each in (changes, settlings))
        return cls(list(best), list(best.values()), change, settling)

    @property
    def change_seconds(self) -> float:
        """As `StepCost.change_seconds`."""
        return (self._change + self._settling) * (1 + self._changes_again)

    def seconds(self, n_tokens: int) -> float:
        """Time of a whole step whose decode has so many tokens."""
        return self._decode_seconds(n_tokens) + self._beside

    def observe(self, n_tokens: int, decode_seconds: float, other_seconds: float) -> None:
        """Learn from a step: its decode, and what it spent beside.

        Where the size is another than in the decode before, nobody knows what part of an error is
        the size's and what the change's: each gets half.
        """
        self._beside += _RATE * (other_seconds - self._beside)
        is_change = n_tokens != self._last_size
        self.note(n_tokens)
        unchanged = self._decode_seconds(n_tokens)
        expected = unchanged
        if is_change:
            expected += self._change
        elif self._has_changed:
            expected += self._settling
        if self._has_changed:
            self._changes_again += _RATE * (is_change - self._changes_again)
        self._has_changed = is_change
        error = min(decode_seconds, OUTLIER * expected) - expected
        step = error * (_RATE_DOWN if error < 0 else _RATE)
        if is_change:
            step /= 2
            self._change = max(0.0, self._change + step)
        if step < 0:  # whatever the change took, the rest is no small part
            step = max(step, min(0.0, decode_seconds / 2 - unchanged))
        low, weight = self._place(n_tokens)
        weight = min(weight, 1.0)  # beyond the largest size, that one learns alone
        self._seconds[low] += (1 - weight) * step
        if weight:
            self._seconds[low + 1] += weight * step
        self._cut_by(low + (weight >= 0.5))

    def _cut_by(self, place: int) -> None:
        """Lower what is implausible beside the time of one size.

        A decode takes no longer than a larger one, and a token no longer than in a smaller one. A
        size that was held up by something else when it was measured would never be tried again.
        """
        size, time = self._sizes[place], self._seconds[place]
        self._seconds = [
            min(seconds, time * max(1.0, other / size))
            for other, seconds in zip(self._sizes, self._seconds, strict=True)
        ]

    def note(self, n_tokens: int) -> None:
        """Know the size of the last decode, of which there is nothing to learn."""
        self._last_size = n_tokens

    def _decode_seconds(self, n_tokens: int) -> float:
        """Between measured sizes a straight line; beyond the largest as steep as before it."""
        low, weight = self._place(n_tokens)
        start = self._seconds[low]
        if len(self._seconds) == 1:
            return start * max(1.0, n_tokens / self._sizes[0])
        if not weight:
            return start
        slope = self._seconds[low + 1] - start
        return start + weight * (slope if weight <= 1.0 else max(slope, 0.0))

    def _place(self, n_tokens: int) -> tuple[int, float]:
        """The measured size below, and how far it is to the next, as a part of the way there.

        Beyond the largest size these are the last size but one and more than 1: so far along the
        last stretch and on.
        """
        sizes = self._sizes
        if len(sizes) == 1:
            return 0, 0.0
        low = bisect_right(self._inner, n_tokens)
        return low, (n_tokens - sizes[low]) / (sizes[low + 1] - sizes[low])
