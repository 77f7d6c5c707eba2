"""How often a guess is right, learnt from what happened to earlier ones.

A head's own probability is over-confident or timid in ways that depend on the head, the rank of the
guess and the text at hand. Guesses are counted by head, rank and probability; the counts that come
with the heads are the start, and what the engine sees weighs in and slowly fades.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

_EDGES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9)
MIDDLES = (0.01, *((low + high) / 2 for low, high in pairwise(_EDGES)), 0.95)
"""A probability of each bin."""
BINS = len(_EDGES) + 1
_PRIOR_WEIGHT = 200.0
"""Counts that come with the heads are worth at most so many trials of a bin: the engine's own
observations, which come in hundreds a second, may then change the picture."""
_FADING = 0.998


def bin_of(probs: np.ndarray) -> np.ndarray:
    """The bin of each probability, any shape."""
    return np.searchsorted(_EDGES, probs, side="right")


class Calibration:
    """Acceptance by head, rank and probability.

    Works on lists: a step asks for a dozen numbers, for which arrays would take longer.

    Args:
        counts: [2, n_heads, top_k, BINS], hits and trials to start from.
    """

    def __init__(self, counts: np.ndarray) -> None:
        hits, trials = counts.astype(np.float64)
        scale = np.minimum(1.0, _PRIOR_WEIGHT / np.maximum(trials, 1.0))
        # One trial that agrees with the head keeps bins without any from being undefined.
        self._hits: list[list[list[float]]] = (hits * scale + np.array(MIDDLES)).tolist()
        self._trials: list[list[list[float]]] = (trials * scale + 1.0).tolist()

    @classmethod
    def trusting(cls, n_heads: int, top_k: int) -> "Calibration":
        """For heads that come without counts: believe them until they prove wrong."""
        trials = np.full((n_heads, top_k, BINS), 20.0)
        return cls(np.stack([trials * np.array(MIDDLES), trials]))

    def estimate(self, probs: Sequence[Sequence[float]]) -> list[list[float]]:
        """Chances that guesses are right, given that those before them are.

        Args:
            probs: [n_heads][top_k] as the heads see it, at most as many ranks as counted.
        """
        estimates = []
        for head, row in enumerate(probs):
            hits, trials = self._hits[head], self._trials[head]
            chances = []
            for rank, prob in enumerate(row):
                place = bisect_right(_EDGES, prob)
                chances.append(hits[rank][place] / trials[rank][place])
            estimates.append(chances)
        return estimates

    def observe(self, head: int, probs: Sequence[float], right: int | None) -> None:
        """Take in what became of a head's guesses.

        Args:
            head: which head.
            probs: [top_k] as passed to `estimate`.
            right: the rank of the guess that was the token, if any was.
        """
        hits, trials = self._hits[head], self._trials[head]
        for rank, prob in enumerate(probs):
            place = bisect_right(_EDGES, prob)
            hits[rank][place] = hits[rank][place] * _FADING + (rank == right)
            trials[rank][place] = trials[rank][place] * _FADING + 1.0
