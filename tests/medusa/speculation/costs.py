"""Costs of steps for tests."""


class Linear:
    """Time that grows by the token."""

    def __init__(self, start: float, slope: float, change: float = 0.0) -> None:
        self._start, self._slope = start, slope
        self.change_seconds = change

    def seconds(self, n_tokens: int) -> float:
        return self._start + self._slope * n_tokens


class Dear:
    """No guess is worth its time."""

    change_seconds = 0.0

    def seconds(self, n_tokens: int) -> float:
        return float(n_tokens**2)
