"""Whether guessing pays, seen by going without it now and then. Pure bookkeeping.

What a step is expected to bring and to cost is known in parts (chances, sizes of decodes, heads);
here steps of both kinds are compared as they came out, with everything that they took.
"""

from collections.abc import Callable

_PLAIN_LOOK = 8
"""Steps without guesses that are looked at."""
_GUESSING_LOOK = 32
"""Steps of one request with guesses that are looked at, as what they bring differs; of more
requests as many fewer, since it is their sum that counts."""
_LEAST_LOOK = 4
_LONGEST = {True: 256, False: 1024}
"""Steps of the faster kind between two looks at the other, at most: with guesses, without."""
_GROWTH = 4
"""A stretch is so many times as long as the one before."""
_FEW = 2
"""Requests that begin with guesses."""
_MEMORY = 128
"""So many steps ago, one counts a third of what it did."""


class _Speed:
    """Progress by seconds, of steps of one kind."""

    def __init__(self) -> None:
        self._progress = 0.0
        self._seconds = 0.0

    def fade(self) -> None:
        self._progress *= 1.0 - 1.0 / _MEMORY
        self._seconds *= 1.0 - 1.0 / _MEMORY

    def add(self, progress: float, seconds: float) -> None:
        self._progress += progress
        self._seconds += seconds

    def __ge__(self, other: "_Speed") -> bool:
        return self._progress * other._seconds >= other._progress * self._seconds


class Payoff:
    """For steps of about the same number of requests: with guesses or without, whichever is faster.

    A stretch of the faster kind and a look at the other take turns. The stretch is four times as
    long each time that the same kind is faster again: where both are as good it does not matter
    which is taken, and where they are not, soon little is lost. Few requests begin with guesses;
    more, for which they rarely pay on a CPU, without.

    Args:
        n_requests: how many.

    Attributes:
        guesses: whether there should be guesses for the next step.
    """

    def __init__(self, n_requests: int = 1) -> None:
        self._look_steps = {
            True: max(_LEAST_LOOK, _GUESSING_LOOK // n_requests),
            False: _PLAIN_LOOK,
        }
        self._speeds = {True: _Speed(), False: _Speed()}
        self._faster = n_requests <= _FEW  # kind, as far as is known
        self._stretch = self._shortest = max(self._look_steps.values())
        self.guesses = self._faster
        self._left = self._stretch

    def observe(self, guessed: bool, progress: float, seconds: float) -> None:
        """Take in a step.

        Args:
            guessed: whether there were guesses for it, or might have been.
            progress: what it brought, in any unit that is the same for both kinds.
            seconds: what it took, with everything.
        """
        for speed in self._speeds.values():
            speed.fade()
        self._speeds[guessed].add(progress, seconds)
        self._left -= guessed == self.guesses
        if self._left <= 0:
            self._turn()

    def _turn(self) -> None:
        """After a stretch a look at the other kind, after the look a stretch of the faster one."""
        if self.guesses == self._faster:
            self.guesses = not self._faster
            self._left = self._look_steps[self.guesses]
            return
        before, self._faster = self._faster, self._speeds[True] >= self._speeds[False]
        longer = min(_GROWTH * self._stretch, _LONGEST[self._faster])
        self._stretch = longer if self._faster == before else self._shortest
        self.guesses = self._faster
        self._left = self._stretch


class Payoffs:
    """The same for steps of any number of requests.

    Args:
        plain_seconds: about what a step of so many requests takes without guesses.
    """

    def __init__(self, plain_seconds: Callable[[int], float]) -> None:
        self._plain_seconds = plain_seconds
        self._by_requests: dict[int, Payoff] = {}

    def guesses(self, n_requests: int) -> bool:
        """Whether there should be guesses for the next step of so many requests."""
        return self._of(n_requests).guesses

    def observe(self, n_requests: int, n_tokens: int, seconds: float, *, guessed: bool) -> None:
        """Take in a step.

        Args:
            n_requests: at least one.
            n_tokens: that it brought to all of them.
            seconds: what it took, with everything.
            guessed: whether there were guesses for it, or might have been.
        """
        progress = n_tokens / n_requests * self._plain_seconds(n_requests)
        self._of(n_requests).observe(guessed, progress, seconds)

    def _of(self, n_requests: int) -> Payoff:
        """One for each of 1, 2, 3 to 4, 5 to 8, ... requests."""
        most = 1 << (n_requests - 1).bit_length()
        if most not in self._by_requests:
            self._by_requests[most] = Payoff(most)
        return self._by_requests[most]
