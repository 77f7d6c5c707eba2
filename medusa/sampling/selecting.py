"""The largest of many numbers, and where their sum crosses a line: without sorting their places.

NumPy sorts and partitions float32 values with vector instructions, thirty times faster than it
sorts their indices. So a limit is found among values, and what lies above it by comparing. What is
said from the large ones alone is said only where the others cannot change it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Side = Literal["left", "right"]

_BLOCK = 256
"""Numbers that are summed together, so that no running sum of all is needed."""

_SAMPLE, _MARGIN = 4096, 64
"""Weights that are looked at first, and how far from the place that they tell the right one may be:
three standard deviations of the worst distributions."""

_ROUNDING = 1e-12
"""By what part of them sums in another order may differ."""


@dataclass(frozen=True)
class Others:
    """Weights at which nobody looks, since each of them is small."""

    count: int
    at_most: float  # each

    @property
    def total(self) -> float:
        """What they weigh together at most."""
        return self.count * self.at_most


@dataclass(frozen=True)
class Nucleus:
    """Some of [n] weights, not listed: to draw one of them takes less than that."""

    kept: np.ndarray  # [n] bool
    sums: np.ndarray  # [n / 256, rounded up] float64, of those kept in each block

    @classmethod
    def of(cls, weights: np.ndarray, kept: np.ndarray) -> "Nucleus":
        """Those that are kept."""
        return cls(kept, _block_sums(weights * kept))

    def crossing(self, weights: np.ndarray, share: float) -> int:
        """Where a running sum of those kept exceeds a share of theirs; see `crossing`."""

        def piece(block: slice) -> np.ndarray:
            return weights[block] * self.kept[block]

        return _crossing(self.sums, piece, share, "right", None)


def crossing(weights: np.ndarray, share: float, side: Side, of: float | None = None) -> int:
    """Where a running sum reaches a share (left), or exceeds it (right).

    Args:
        weights: [n] float32, not negative and not all 0.
        share: from 0 to 1.
        of: of how much; None: of the sum of all.

    Returns:
        An index; where rounding keeps the sum from getting there, one whose weight is not 0.
    """
    return _crossing(_block_sums(weights), weights.__getitem__, share, side, of)


def crossing_of_some(weights: np.ndarray, others: Others, share: float) -> int | None:
    """Where a running sum exceeds a share of all, as far as some of the weights tell.

    Args:
        weights: [n] float32 in their order, above 0.
        others: may lie anywhere between them.
        share: from 0 to below 1.

    Returns:
        An index, or None: where the others lie matters.
    """
    running = np.cumsum(weights, dtype=np.float64)
    mass = float(running[-1])
    earliest = share * mass - (1.0 - share) * others.total - _ROUNDING * mass
    latest = share * (mass + others.total) + _ROUNDING * mass
    first, last = np.searchsorted(running, [earliest, latest], side="right")
    return int(first) if earliest >= 0.0 and first == last < len(weights) else None


def total(weights: np.ndarray) -> float:
    """The sum of [n] float32, as `crossing` sees it."""
    return float(np.cumsum(_block_sums(weights))[-1])


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest of [n] numbers, ascending; equal ones by index. 0 < count."""
    return np.flatnonzero(_largest(values, count))


def nucleus(weights: np.ndarray, share: float, at_least: int) -> Nucleus:
    """The smallest set of largest weights that holds a share of their sum; equal ones by index.

    Args:
        weights: [n] float32, not negative and not all 0.
        share: from 0 to below 1.
        at_least: so many in any case.
    """
    mass = total(weights)
    target = share * mass
    low, high = _guessed_limits(weights, mass - target)
    kept: np.ndarray = weights > high
    near = np.flatnonzero(kept ^ (weights >= low))
    sums = _block_sums(weights * kept)
    values = weights[near]
    ordered = np.sort(values)[::-1]
    missing = target - float(np.cumsum(sums)[-1])
    place = int(np.searchsorted(np.cumsum(ordered, dtype=np.float64), missing))
    is_guessed_right = missing > 0.0 and place < len(near)
    if not is_guessed_right or np.count_nonzero(kept) + place + 1 < at_least:
        return Nucleus.of(weights, _sorted_nucleus(weights, mass, share, at_least))
    chosen = near[_above(values, ordered[place], place + 1)]
    kept[chosen] = True
    sums += np.bincount(chosen // _BLOCK, weights[chosen], len(sums))
    return Nucleus(kept, sums)


def nucleus_of_some(
    weights: np.ndarray, others: Others, share: float, at_least: int
) -> np.ndarray | None:
    """The same, as far as some of the weights tell.

    Args:
        weights: [n] float32, above 0.
        others: none larger than any of them.
        share: from 0 to below 1.
        at_least: so many in any case.

    Returns:
        [n] bool, or None: some of the others may be in the set.
    """
    ordered = np.sort(weights)[::-1]
    running = np.cumsum(ordered, dtype=np.float64)
    mass = float(running[-1])
    least = share * mass - _ROUNDING * mass
    most = share * (mass + others.total) + _ROUNDING * mass
    first, last = np.searchsorted(running, [least, most])
    count = max(int(first) + 1, at_least)
    if first != last or count > len(weights) or ordered[count - 1] <= others.at_most:
        return None
    return _above(weights, ordered[count - 1], count)


def _guessed_limits(weights: np.ndarray, excess: float) -> tuple[np.float32, np.float32]:
    """Limits between which the smallest needed weight probably is, from looking at some.

    What is cut off, so much in all, tells it better than what is kept: no weight of it is large.
    """
    step = max(1, len(weights) // _SAMPLE)
    some = np.sort(weights[::step])
    place = int(np.searchsorted(np.cumsum(some, dtype=np.float64), excess / step))
    return some[max(place - _MARGIN, 0)], some[min(place + _MARGIN, len(some) - 1)]


def _sorted_nucleus(weights: np.ndarray, mass: float, share: float, at_least: int) -> np.ndarray:
    """What is in a nucleus, [n] bool: wherever the smallest weight that is needed may be."""
    # All that is below an equal share of the mass to be cut off cannot be needed, since all of it
    # together does not exceed that mass. The half is for rounding.
    low = np.float32(0.5 * (1.0 - share) * mass / len(weights))
    ordered = np.sort(weights[np.flatnonzero(weights >= low)])[::-1]
    place = crossing(ordered, 1.0, "left", share * mass)
    if place + 1 < at_least:
        return _largest(weights, at_least)
    return _above(weights, ordered[place], place + 1)


def ascending(keys: np.ndarray) -> np.ndarray:
    """Indices that sort [n] float32 keys, none of them negative; equal ones by index."""
    packed = keys.view(np.uint32).astype(np.uint64) << np.uint64(32)
    packed |= np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    return (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Which of [n] numbers are the `count` largest, [n] bool; equal ones by index. 0 < count."""
    if count >= len(values):
        return np.ones(len(values), bool)
    place = len(values) - count
    return _above(values, np.partition(values, place)[place], count)


def _above(values: np.ndarray, limit: np.float32, count: int) -> np.ndarray:
    """Which are the `count` largest values, [n] bool, of which the last one is the limit."""
    found: np.ndarray = values >= limit
    excess = int(np.count_nonzero(found)) - count
    if excess:  # of those that equal the limit, the last ones are too many
        found[np.flatnonzero(values == limit)[-excess:]] = False
    return found


def _block_sums(weights: np.ndarray) -> np.ndarray:
    """[n] float32 -> [n / 256, rounded up] float64."""
    return np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK), dtype=np.float64)


def _crossing(
    sums: np.ndarray,
    piece: Callable[[slice], np.ndarray],
    share: float,
    side: Side,
    of: float | None,
) -> int:
    """See `crossing`.

    Args:
        sums: of the blocks.
        piece: gives the weights of one of them.
    """
    edges = np.cumsum(sums)
    target = share * (edges[-1] if of is None else of)
    last = int(np.searchsorted(edges, edges[-1]))  # of the blocks that are not all 0
    block = min(int(np.searchsorted(edges, target, side=side)), last)
    start = block * _BLOCK
    inside = piece(slice(start, start + _BLOCK))
    before = edges[block] - sums[block]
    running = np.cumsum(inside, dtype=np.float64)
    offset = int(np.searchsorted(running, target - before, side=side))
    if offset == len(inside):
        offset = int(inside.argmax())
    return start + offset
