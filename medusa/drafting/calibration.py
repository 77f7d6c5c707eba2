"""How often a guess is right, learnt from what happened to earlier ones.

A head's own probability is over-confident or timid in ways that depend on the head, the rank of the
guess and the text at hand. Guesses are counted by head, rank and probability; the counts that come
with the heads are the start, and what the engine sees weighs in and slowly fades.
"""

import numpy as np

_EDGES = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9], np.float32)
_MIDDLE = np.concatenate([[0.01], (_EDGES[1:] + _EDGES[:-1]) / 2, [0.95]])
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

    Args:
        counts: [2, n_heads, top_k, BINS], hits and trials to start from.
    """

    def __init__(self, counts: np.ndarray) -> None:
        hits, trials = counts.astype(np.float64)
        scale = np.minimum(1.0, _PRIOR_WEIGHT / np.maximum(trials, 1.0))
        # One trial that agrees with the head keeps bins without any from being undefined.
        self._hits, self._trials = hits * scale + _MIDDLE, trials * scale + 1.0
        n_heads, top_k, _ = hits.shape
        self._head = np.arange(n_heads)[:, None]
        self._rank = np.arange(top_k)
        self._table = self._hits / self._trials

    @classmethod
    def trusting(cls, n_heads: int, top_k: int) -> "Calibration":
        """For heads that come without counts: believe them until they prove wrong."""
        trials = np.full((n_heads, top_k, BINS), 20.0)
        return cls(np.stack([trials * _MIDDLE, trials]))

    def estimate(self, probs: np.ndarray) -> np.ndarray:
        """Chances that guesses are right, given that those before them are.

        Args:
            probs: [n_heads, top_k] as the heads see it, at most as many ranks as counted.
        """
        return self._table[self._head, self._rank[: probs.shape[1]], bin_of(probs)]

    def observe(self, head: int, probs: np.ndarray, right: np.ndarray) -> None:
        """Take in what became of a head's guesses.

        Args:
            head: which head.
            probs: [top_k] as passed to `estimate`.
            right: [top_k] bool, whether each was the token.
        """
        place = head, self._rank[: len(probs)], bin_of(probs)
        self._hits[place] = self._hits[place] * _FADING + right
        self._trials[place] = self._trials[place] * _FADING + 1.0
        self._table[place] = self._hits[place] / self._trials[place]
