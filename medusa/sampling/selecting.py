"""The largest of many numbers, and where their sum crosses a line: without sorting their places.

NumPy sorts and partitions float32 values with vector instructions, thirty times faster than it
sorts their indices. So a limit is found among values, and what lies above it by comparing.
"""

import numpy as np

BLOCK = 256
"""Numbers that are summed together, so that no running sum of all is needed."""


def block_sums(values: np.ndarray) -> np.ndarray:
    """[n] float32 -> [n / BLOCK, rounded up] float64."""
    sums: np.ndarray = np.add.reduceat(values, np.arange(0, len(values), BLOCK), dtype=np.float64)
    return sums


def crossing(weights: np.ndarray, sums: np.ndarray, share: float) -> int:
    """Where a running sum exceeds a share of all.

    Args:
        weights: [n] float32, not negative and not all 0.
        sums: of blocks of them.
        share: from 0 to below 1.

    Returns:
        An index; where rounding keeps the sum from getting there, one whose weight is not 0.
    """
    edges = np.cumsum(sums)
    target = share * edges[-1]
    last = int(np.searchsorted(edges, edges[-1]))  # of the blocks that are not all 0
    block = min(int(np.searchsorted(edges, target, side="right")), last)
    start = block * BLOCK
    inside = weights[start : start + BLOCK]
    running = np.cumsum(inside, dtype=np.float64)
    before = edges[block] - sums[block]
    offset = int(np.searchsorted(running, target - before, side="right"))
    if offset == len(inside):
        offset = int(inside.argmax())
    return start + offset


def nucleus(weights: np.ndarray, target: float) -> np.ndarray:
    """The smallest set of largest weights that reach a target together; equal ones by index.

    Args:
        weights: [n] float32, not negative and not all 0.
        target: below the sum of all.

    Returns:
        Ascending indices.
    """
    ordered = np.sort(weights)[::-1]
    running = np.cumsum(ordered, dtype=np.float64)
    place = int(np.searchsorted(running, min(target, running[-1])))
    return _above(weights, ordered[place], place + 1)


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Ascending indices of the `count` largest of [n] numbers; equal ones by index. 0 < count."""
    if count >= len(values):
        return np.arange(len(values))
    place = len(values) - count
    return _above(values, np.partition(values, place)[place], count)


def ascending(keys: np.ndarray) -> np.ndarray:
    """Indices that sort [n] float32 keys, none of them negative; equal ones by index."""
    packed = keys.view(np.uint32).astype(np.uint64) << np.uint64(32)
    packed |= np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    return (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _above(values: np.ndarray, limit: np.float32, count: int) -> np.ndarray:
    """Ascending indices of the `count` largest values, of which the last one is the limit."""
    found: np.ndarray = np.flatnonzero(values >= limit)
    excess = len(found) - count
    if excess:  # of those that equal the limit, the last ones are too many
        found = np.delete(found, np.flatnonzero(values[found] == limit)[-excess:])
    return found
