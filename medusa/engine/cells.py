"""Which KV cells hold which slot's tokens, so that shared ones count once. Pure bookkeeping."""

from collections.abc import Iterable
from typing import Self


class _Origin:
    """Cells that were filled one after the other, from a position on."""

    __slots__ = ("start",)

    def __init__(self, start: int) -> None:
        self.start = start


class CellRuns:
    """The cells of one slot's tokens, in runs of common origin.

    A slot that takes over another's first tokens has the same cells, hence the same origins:

        A: |-- origin 1 --------------|      positions 0 to 300
        B: |-- origin 1 --|- origin 2 -|     takes over 150, computes 160 of its own

    A and B together hold 300 + 160 cells. What a slot drops another may still hold, so that cells
    filled in their place are of a new origin.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[_Origin, int]] = []  # and the position behind each run's last cell
        self._open = False  # whether the last run's cells end where its origin's do

    def __len__(self) -> int:
        return self._runs[-1][1] if self._runs else 0

    @property
    def runs(self) -> list[tuple[_Origin, int]]:
        """Origins in order of position, each with the position behind its last cell."""
        return self._runs

    def extend(self, count: int) -> None:
        """Add newly filled cells."""
        if count <= 0:
            return
        end = len(self)
        if self._open:
            origin, _ = self._runs.pop()
        else:
            origin, self._open = _Origin(end), True
        self._runs.append((origin, end + count))

    def first(self, length: int) -> Self:
        """The cells of the first `length` tokens, for another slot or for a shorter text."""
        cells = type(self)()
        for origin, end in self._runs:
            if origin.start < length:
                cells._runs.append((origin, min(end, length)))
        return cells


def distinct(slots: Iterable[CellRuns]) -> int:
    """How many cells these slots hold together."""
    ends: dict[_Origin, int] = {}
    for cells in slots:
        for origin, end in cells.runs:
            if end > ends.get(origin, 0):
                ends[origin] = end
    return sum(end - origin.start for origin, end in ends.items())
