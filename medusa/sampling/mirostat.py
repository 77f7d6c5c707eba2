"""Mirostat: keeps the surprise of the chosen tokens near a target (Basu et al. 2021).

Both versions cut off what is too surprising for a limit that is adjusted after every token, as in
llama.cpp (src/llama-sampler.cpp).
"""

import math

import numpy as np

from medusa.sampling.candidates import Candidates
from medusa.sampling.passes import reaching
from medusa.sampling.selecting import largest

_MOST_BITS = 1000.0  # 2 to the power of more leaves float64's range
_MOST_COMPARED = (
    100  # likeliest tokens from which version 1 estimates the shape of the distribution
)


class Mirostat:
    """One request's limit on surprise, in bits.

    Args:
        version: 1 or 2.
        tau: the surprise that is aimed at.
        eta: how fast the limit follows.
    """

    def __init__(self, version: int, tau: float, eta: float) -> None:
        self._cut = {1: top_by_zipf, 2: unsurprising}[version]
        self._tau = tau
        self._eta = eta
        self.limit = 2 * tau

    def cut(self, candidates: Candidates) -> Candidates:
        """The candidates that the limit leaves, at least one."""
        return self._cut(candidates, self.limit)

    def observe(self, share: float) -> None:
        """Learn how likely what was chosen is among those that the cut left."""
        self.limit -= self._eta * (-math.log2(share) - self._tau)


def unsurprising(candidates: Candidates, limit: float) -> Candidates:
    """Version 2: those whose surprise is at most the limit, or else the likeliest."""
    weighed = candidates.weighed
    kept = reaching(weighed.values, weighed.total * 2.0 ** min(-limit, _MOST_BITS))
    return candidates.only(kept if len(kept) else largest(candidates.logits, 1))


def top_by_zipf(candidates: Candidates, limit: float) -> Candidates:
    """Version 1: as many of the likeliest as lead to the limit if the distribution is Zipf's."""
    best = largest(candidates.logits, _MOST_COMPARED)
    logs = -np.sort(-candidates.scaled[best].astype(np.float64))
    logs = logs[logs > -np.inf]
    if len(logs) < 2:
        return candidates.only(largest(candidates.logits, 1))
    ranks = np.arange(1, len(logs))
    steps = np.log((ranks + 1) / ranks)
    slope = float(steps @ (logs[:-1] - logs[1:]) / (steps @ steps))
    epsilon = slope - 1
    with np.errstate(all="ignore"):
        rest = 1 - np.power(float(len(candidates)), -epsilon)
        count = np.power(epsilon * 2.0 ** min(limit, _MOST_BITS) / rest, 1 / slope)
    count = min(count, len(candidates)) if count >= 1 else 1  # it may be no number
    return candidates.only(largest(candidates.logits, int(count)))
