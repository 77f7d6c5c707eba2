"""The largest of many numbers, and where their sum crosses a line: without sorting their places.

NumPy sorts and partitions float32 values with vector instructions, thirty times faster than it
sorts their indices. So a limit is found among values, and what lies above it by comparing.
"""

from typing import Literal

import numpy as np

_BLOCK = 256
"""Numbers that are summed together, so that no running sum of all is needed."""

_FEW = 4  # a quarter of all is no longer few enough to be sorted without more ado
_SAMPLE, _MARGIN = 4096, 128
"""Weights that are looked at first, and how far from the place that they tell the right one may be:
four standard deviations."""


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
    edges = sums.cumsum()
    target = share * (edges[-1] if of is None else of)
    last = int(edges.searchsorted(edges[-1]))  # of the blocks that are not all 0
    block = min(int(edges.searchsorted(target, side)), last)
    inside = weights[starts[block] : starts[block] + _BLOCK]
    before = edges[block] - sums[block]
    running = inside.cumsum(dtype=np.float64)
    offset = int(running.searchsorted(target - before, side))
    if offset == len(inside):
        offset = int(inside.argmax())
    return int(starts[block]) + offset


def total(weights: np.ndarray) -> float:
    """The sum of [n] float32, as `crossing` sees it."""
    sums = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK), dtype=np.float64)
    return float(sums.cumsum()[-1])


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest of [n] numbers, ascending; equal ones by index. 0 < count."""
    if count >= len(values):
        return np.arange(len(values))
    place = len(values) - count
    return _above(values, np.partition(values, place)[place], count)


def nucleus(weights: np.ndarray, share: float, at_least: int) -> np.ndarray:
    """Indices of the smallest set of largest weights that holds a share of their sum, ascending.

    Args:
        weights: [n] float32, not negative and not all 0.
        share: from 0 to below 1.
        at_least: so many in any case.
    """
    mass = total(weights)
    target = share * mass
    # All that is below an equal share of the mass to be cut off cannot be needed, since all of it
    # together does not exceed that mass. The half is for rounding.
    low = np.float32(0.5 * (1.0 - share) * mass / len(weights))
    brackets = [(low, np.float32(np.inf))]
    if _FEW * np.count_nonzero(weights >= low) > len(weights):
        lower, upper = _guessed_limits(weights, share)
        brackets = [(lower, upper), (upper, np.float32(np.inf)), (low, lower), *brackets]
    limit, count = _last_needed(weights, target, brackets)
    return largest(weights, at_least) if count < at_least else _above(weights, limit, count)


def _guessed_limits(weights: np.ndarray, share: float) -> tuple[np.float32, np.float32]:
    """Limits between which the smallest needed weight probably is, from looking at some."""
    some = np.sort(weights[:: max(1, len(weights) // _SAMPLE)])[::-1]
    if some[0] == 0:
        return some[0], some[0]
    place = crossing(some, share, "left")
    return some[min(place + _MARGIN, len(some) - 1)], some[max(place - _MARGIN, 0)]


def _last_needed(
    weights: np.ndarray, target: float, brackets: list[tuple[np.float32, np.float32]]
) -> tuple[np.float32, int]:
    """The smallest of the largest weights that sum up to a target, and how many they are.

    Args:
        weights: [n] float32.
        target: at most their sum.
        brackets: (low, high), between which it may be; it is between those of the last.
    """
    for low, high in brackets:
        above = weights > high
        inside = weights[np.flatnonzero((weights >= low) & ~above)]
        missing = target - (total(weights * above) if high < np.inf else 0.0)
        is_last = (low, high) == brackets[-1]
        if is_last or (len(inside) > 0 and 0.0 < missing <= total(inside)):
            inside = np.sort(inside)[::-1]
            place = crossing(inside, 1.0, "left", missing)
            return inside[place], int(np.count_nonzero(above)) + place + 1
    raise AssertionError("there is no bracket")


def ascending(keys: np.ndarray) -> np.ndarray:
    """Indices that sort [n] float32 keys, none of them negative; equal ones by index."""
    packed = keys.view(np.uint32).astype(np.uint64) << np.uint64(32)
    packed |= np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    return (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _above(values: np.ndarray, limit: np.float32, count: int) -> np.ndarray:
    """Indices of the `count` largest values, ascending, of which the last one is the limit."""
    found = np.flatnonzero(values >= limit)
    if len(found) > count:  # of those that equal the limit, the last ones are too many
        equal = np.flatnonzero(values[found] == limit)
        found = np.delete(found, equal[len(equal) - (len(found) - count) :])
    return found
