"""The largest of many numbers, and where their sum crosses a line: without sorting their places.

NumPy sorts and partitions float32 values with vector instructions, thirty times faster than it
sorts their indices. So a limit is found among values, and what lies above it by comparing. What is
said from the large ones alone is said only where the others cannot change it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

_BLOCK = 256
"""Numbers that are summed together, so that no running sum of all is needed."""

_SAMPLE, _MARGIN = 4096, 128
"""Weights that are looked at first, and how far from the place that they tell the right one may be:
four standard deviations."""

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


def crossing(
    weights: np.ndarray, share: float, side: Literal["left", "right"], of: float | None = None
) -> int:
    """Where a running sum reaches a share (left), or exceeds it (right).

    Args:
        weights: [n] float32, not negative and not all 0.
        share: from 0 to 1.
        of: of how much; None: of the sum of all.

    Returns:
        An index; where rounding keeps the sum from getting there, one whose weight is not 0.
    """
    starts = np.arange(0, len(weights), _BLOCK)
    sums = np.add.reduceat(weights, starts, dtype=np.float64)
    edges = np.cumsum(sums)
    target = share * (edges[-1] if of is None else of)
    last = int(np.searchsorted(edges, edges[-1]))  # of the blocks that are not all 0
    block = min(int(np.searchsorted(edges, target, side=side)), last)
    inside = weights[starts[block] : starts[block] + _BLOCK]
    before = edges[block] - sums[block]
    running = np.cumsum(inside, dtype=np.float64)
    offset = int(np.searchsorted(running, target - before, side=side))
    if offset == len(inside):
        offset = int(inside.argmax())
    return int(starts[block]) + offset


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
    sums = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK), dtype=np.float64)
    return float(np.cumsum(sums)[-1])


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest of [n] numbers, ascending; equal ones by index. 0 < count."""
    return np.flatnonzero(_largest(values, count))


def nucleus(weights: np.ndarray, share: float, at_least: int) -> np.ndarray:
    """The smallest set of largest weights that holds a share of their sum; equal ones by index.

    Args:
        weights: [n] float32, not negative and not all 0.
        share: from 0 to below 1.
        at_least: so many in any case.

    Returns:
        [n] bool, which of them are in it.
    """
    mass = total(weights)
    target = share * mass
    # All that is below an equal share of the mass to be cut off cannot be needed, since all of it
    # together does not exceed that mass. The half is for rounding.
    low = np.float32(0.5 * (1.0 - share) * mass / len(weights))
    found = _last_needed(weights, target, *_guessed_limits(weights, mass - target))
    limit, count = found or _last_needed_above(weights, target, low)
    return _above(weights, limit, count) if count >= at_least else _largest(weights, at_least)


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


def _last_needed(
    weights: np.ndarray, target: float, low: np.float32, high: np.float32
) -> tuple[np.float32, int] | None:
    """The smallest of the largest weights that sum up to a target, and how many they are.

    Args:
        weights: [n] float32.
        target: at most their sum.
        low, high: between which it is looked for.

    Returns:
        None: it is not between the two.
    """
    above = weights > high
    inside = weights[np.flatnonzero(above ^ (weights >= low))]
    missing = target - total(weights * above)
    inside = np.sort(inside)[::-1]
    place = int(np.searchsorted(np.cumsum(inside, dtype=np.float64), missing))
    if missing <= 0.0 or place == len(inside):
        return None
    return inside[place], int(np.count_nonzero(above)) + place + 1


def _last_needed_above(
    weights: np.ndarray, target: float, low: np.float32
) -> tuple[np.float32, int]:
    """The same where it is known to be no smaller than low."""
    inside = np.sort(weights[np.flatnonzero(weights >= low)])[::-1]
    place = crossing(inside, 1.0, "left", target)
    return inside[place], place + 1


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
