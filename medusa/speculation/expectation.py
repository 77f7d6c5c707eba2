"""What was expected of the steps under way, and what they came out to be."""

import copy
from dataclasses import dataclass

from medusa.speculation.cost import OUTLIER, StepCost
from medusa.speculation.payoff import Payoffs

_EXCESS_RATE = 0.2
"""How fast it is followed what steps take longer than expected, changes of size included."""
_HELD_UP = 1.5
"""A step that took that many times what was expected counts as no more: the few that are looked at
would say what else the machine did."""


@dataclass(frozen=True)
class Expected:
    """What is expected of a step."""

    seconds: float  # without the heads, the size unchanged
    guessed: bool  # whether there might be guesses for it from sources that rest
    asked: bool  # the heads, for its guesses


class Expectation:
    """Compares steps with what was expected of them.

    A step counts only if what it decodes and what is guessed at its end, for the next one, are of
    the same kind.

    Args:
        cost: of a step, before anything was learnt.
    """

    def __init__(self, cost: StepCost) -> None:
        self._payoffs = Payoffs(copy.deepcopy(cost).seconds)
        self._planned: Expected | None = None  # of the next step
        self._decoded: Expected | None = None  # of the one before
        self._excess = {True: 0.0, False: 0.0}

    def guesses(self, n_requests: int) -> bool:
        """Whether guessing pays for so many requests."""
        return self._payoffs.guesses(n_requests)

    def excess(self, *, asked: bool) -> float:
        """Seconds that steps take longer than expected, by whether heads were asked for them."""
        return self._excess[asked]

    def plan(self, expected: Expected | None) -> None:
        """Expect something of the next step, as the last one has been decoded."""
        self._decoded, self._planned = self._planned, expected

    def learn_excess(self, seconds: float) -> None:
        """Compare what the last step took, but for the heads, with what it was expected to."""
        decoded, planned = self._decoded, self._planned
        if decoded is not None and planned is not None and decoded.asked == planned.asked:
            error = min(seconds, OUTLIER * decoded.seconds) - decoded.seconds
            self._excess[decoded.asked] += _EXCESS_RATE * (error - self._excess[decoded.asked])

    def learn_payoff(self, n_requests: int, n_emitted: int, seconds: float) -> None:
        """Take in what the last step brought to its requests, and what it took in all."""
        decoded, planned = self._decoded, self._planned
        if decoded is not None and planned is not None and decoded.guessed == planned.guessed:
            self._payoffs.observe(
                n_requests,
                n_emitted,
                min(seconds, _HELD_UP * decoded.seconds),
                guessed=decoded.guessed,
            )
