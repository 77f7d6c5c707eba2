"""Distributions over the vocabulary: which tokens are left, and drawing one of them.

Temperature, then top-k, top-p and min-p on the resulting distribution, as in vLLM and Hugging Face.
"""

import math
from functools import lru_cache

import numpy as np

from medusa.errors import NotNumbersError
from medusa.sampling.params import SamplingParams

_BLOCK = 256
"""Weights that are summed together when drawing, so that no running sum of all is needed."""

_SHORTLIST_THRESHOLDS = (1e-2, 1e-4, 1e-7, 0.0)
"""Weights, relative to the best token's, above which top-k looks for its tokens, in turn."""


def checked_peak(largest: float) -> float:
    """The largest logit of a row as it is, if it shows that all of them are numbers.

    A maximum is NaN where any logit is, and -inf where all are.

    Raises:
        NotNumbersError: it does not.
    """
    if not math.isfinite(largest):
        raise NotNumbersError(
            "the model's logits are not numbers; its file is damaged, or what computes it is broken"
        )
    return largest


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log probabilities of one row. Shapes: [n_vocab] float32 -> [n_vocab] float64.

    Raises:
        NotNumbersError: see `checked_peak`.
    """
    shifted = logits.astype(np.float64) - checked_peak(float(logits.max()))
    return shifted - np.log(np.exp(shifted).sum())


def candidates(
    logits: np.ndarray, params: SamplingParams, scratch: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that temperature, top-k, top-p and min-p leave over, with their weights.

    Args:
        logits: [n_vocab] float32, penalties already applied; temperature must be above 0.
        scratch: [n_vocab] float32 to work in; the result may be a view of it.

    Returns:
        Token ids [n] and their probabilities relative to the likeliest token's [n] float32. In
        descending order where top-k or top-p sorted them, else ascending by id.

    Raises:
        NotNumbersError: see `checked_peak`.
    """
    largest = logits.max()
    checked_peak(float(largest))
    weights = np.subtract(logits, largest, out=scratch)
    weights /= np.float32(params.temperature)
    np.exp(weights, out=weights)
    ids = _all_ids(len(weights))
    if params.top_k <= 0 and params.top_p >= 1.0 and params.min_p <= 0.0:
        return ids, weights
    if 0 < params.top_k < len(ids):
        ids = _likeliest(weights, params.top_k)
    if params.top_p < 1.0:
        ids = ids[_nucleus(weights[ids], params.top_p)]
    if params.min_p > 0.0:
        ids = ids[weights[ids] >= params.min_p]
    return ids, weights[ids]


@lru_cache(maxsize=8)
def _all_ids(n_vocab: int) -> np.ndarray:
    return np.arange(n_vocab)


def draw(weights: np.ndarray, uniform: float) -> int:
    """The index that a uniform number in [0, 1) selects: the inverse of the cumulated weights.

    weights: [n] float32, not negative and not all zero; they need not sum to 1.
    """
    starts = np.arange(0, len(weights), _BLOCK)
    sums = np.add.reduceat(weights, starts, dtype=np.float64)
    edges = np.cumsum(sums)
    target = uniform * edges[-1]
    block = min(int(np.searchsorted(edges, target, side="right")), len(sums) - 1)
    inside = weights[starts[block] : starts[block] + _BLOCK]
    cumulative = np.cumsum(inside, dtype=np.float64)
    offset = int(np.searchsorted(cumulative, target - (edges[block] - sums[block]), side="right"))
    if offset == len(inside):  # rounding; any token of the block with weight will do
        offset = int(inside.argmax())
    return int(starts[block]) + offset


def _likeliest(weights: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest weights, largest first, equal ones by index."""
    for threshold in _SHORTLIST_THRESHOLDS:
        ids = np.flatnonzero(weights > threshold)
        if len(ids) >= count:
            return ids[_descending(weights[ids])][:count]
    return _descending(weights)[:count]


def _nucleus(weights: np.ndarray, top_p: float) -> np.ndarray:
    """Indices of the smallest set of likeliest tokens that holds `top_p` of the mass.

    Holtzman et al. 2020, "The curious case of neural text degeneration". Tokens below an equal
    share of the mass to be cut off cannot be needed, since all of them together do not exceed it.
    """
    total = float(weights.sum(dtype=np.float64))
    ids = np.flatnonzero(weights >= np.float32((1.0 - top_p) * total / len(weights)))
    ids = ids[_descending(weights[ids])]
    mass = np.cumsum(weights[ids], dtype=np.float64)
    return ids[: int(np.searchsorted(mass, top_p * total)) + 1]


def _descending(weights: np.ndarray) -> np.ndarray:
    return np.argsort(-weights, kind="stable")
