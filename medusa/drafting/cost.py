"""What a step costs by the number of tokens in its decode: measured at the start, kept current."""

from collections.abc import Callable, Sequence

import numpy as np

_SIZES = (1, 2, 4, 8, 16, 32, 64)
_ROUNDS = 3
_MEASURING_SECONDS = 1.0
_RATE = 0.05
_OUTLIER = 3.0
"""Slower than that many times what was expected, a decode was held up by something else."""


class MeasuredCost:
    """Time of a step, interpolated between measured sizes.

    Args:
        sizes: tokens in a decode, ascending.
        seconds: how long each took.
    """

    def __init__(self, sizes: Sequence[int], seconds: Sequence[float]) -> None:
        self._sizes = np.array(sizes, np.float64)
        self._seconds = np.maximum.accumulate(np.array(seconds, np.float64))
        self._beside = 0.0
        self._table = self._tabulate()

    @classmethod
    def measure(cls, decode: Callable[[int], float], largest: int) -> "MeasuredCost":
        """Take the time of decodes of several sizes, for about a second.

        Args:
            decode: decodes that many tokens and returns the seconds it took.
            largest: most tokens in a step.
        """
        sizes = [size for size in _SIZES if size < largest] + [largest]
        decode(1)  # the first one also warms up
        seconds: list[float] = []
        spent = 0.0
        for size in sizes:
            rounds = [decode(size)]
            while len(rounds) < _ROUNDS and spent + sum(rounds) < _MEASURING_SECONDS:
                rounds.append(decode(size))
            seconds.append(min(rounds))
            spent += sum(rounds)
            if spent > _MEASURING_SECONDS:
                break
        return cls(sizes[: len(seconds)], seconds)

    def seconds(self, n_tokens: int) -> float:
        """Time of a whole step whose decode has so many tokens."""
        if n_tokens < len(self._table):
            return self._table[n_tokens]
        return self._decode_seconds(n_tokens) + self._beside

    def observe(self, n_tokens: int, decode_seconds: float, other_seconds: float) -> None:
        """Learn from a step: its decode, and what it spent beside."""
        self._beside += _RATE * (other_seconds - self._beside)
        expected = self._decode_seconds(n_tokens)
        error = min(decode_seconds, _OUTLIER * expected) - expected
        place = np.interp(n_tokens, self._sizes, np.arange(len(self._sizes)))
        low = int(place)
        weight = place - low
        self._seconds[low] += _RATE * (1 - weight) * error
        if weight:
            self._seconds[low + 1] += _RATE * weight * error
        self._table = self._tabulate()

    def _decode_seconds(self, n_tokens: int) -> float:
        return float(self._extended(np.array([n_tokens]))[0])

    def _tabulate(self) -> list[float]:
        sizes = np.arange(int(self._sizes[-1]) + 2)
        table: list[float] = (self._extended(sizes) + self._beside).tolist()
        return table

    def _extended(self, sizes: np.ndarray) -> np.ndarray:
        """Interpolated; beyond the largest size as steep as before it."""
        inside = np.interp(sizes, self._sizes, self._seconds)
        if len(self._sizes) < 2:
            return inside * np.maximum(1.0, sizes / self._sizes[-1])
        slope = (self._seconds[-1] - self._seconds[-2]) / (self._sizes[-1] - self._sizes[-2])
        return inside + np.maximum(0.0, sizes - self._sizes[-1]) * max(slope, 0.0)
