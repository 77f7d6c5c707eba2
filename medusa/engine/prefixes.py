"""Texts as prefixes of others. Pure functions and data."""

from collections.abc import Sequence
from dataclasses import dataclass

from medusa.llama.adapters import AdapterSet


@dataclass(frozen=True)
class PrefixKey:
    """What cached cells must have been computed from to be good for a sequence."""

    adapters: AdapterSet
    tokens: list[int]


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix, by bisection on slice equality."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
