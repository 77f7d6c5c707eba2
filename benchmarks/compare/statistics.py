"""Medians, their spread, and how sure a ratio of medians is."""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_RESAMPLES = 2000


@dataclass(frozen=True)
class Spread:
    """The middle of some figures, and the least and greatest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians with the interval that 95 % of bootstrap resamples fall into."""

    value: float
    low: float
    high: float


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the others do not exceed, between neighbours by proportion.

    Args:
        values: at least one.
        share: from 0 (the least value) to 1 (the greatest).
    """
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return below if below == above else below + (above - below) * (place - math.floor(place))


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """Of two series' medians; value i of both was measured in round i, which is resampled whole.

    The percentile bootstrap (Efron and Tibshirani, 1993), the same for the same values.

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    if len(numerator) != len(denominator) or not numerator:
        raise ValueError("both need a value for each round")
    dice = random.Random(0)
    rounds = range(len(numerator))
    found = []
    for _ in range(_RESAMPLES):
        chosen = dice.choices(rounds, k=len(rounds))
        above = statistics.median(numerator[i] for i in chosen)
        found.append(above / statistics.median(denominator[i] for i in chosen))
    value = statistics.median(numerator) / statistics.median(denominator)
    return Ratio(value, percentile(found, 0.025), percentile(found, 0.975))


def geometric_mean(values: Sequence[float]) -> float:
    """Zero where one is."""
    return statistics.geometric_mean(values) if all(values) else 0.0


def common_prefix(one: str, other: str) -> int:
    """Characters that two texts begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
