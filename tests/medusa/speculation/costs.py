"""Costs of steps for tests."""

from collections.abc import Sequence
from itertools import accumulate


class Linear:
    """Time that grows by the token."""

    def __init__(self, start: float, slope: float, change: float = 0.0) -> None:
        self._start, self._slope = start, slope
        self.change_seconds = change

    def seconds(self, n_tokens: int) -> float:
        return self._start + self._slope * n_tokens


class Uneven:
    """Time that grows by another amount with every token; after the last with none."""

    change_seconds = 0.0

    def __init__(self, rises: Sequence[float]) -> None:
        self._seconds = list(accumulate(rises, initial=1.0))

    def seconds(self, n_tokens: int) -> float:
        return self._seconds[min(n_tokens, len(self._seconds) - 1)]


class Dear:
    """No guess is worth its time."""

    change_seconds = 0.0

    def seconds(self, n_tokens: int) -> float:
        return float(n_tokens**2)
