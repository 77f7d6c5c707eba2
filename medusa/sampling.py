"""Choosing one token from one row of logits.

The order is that of vLLM and Hugging Face: logit bias and penalties, temperature, then top-k,
top-p and min-p on the resulting distribution, then one draw of the request's own random numbers.
Exactly one draw is spent for each emitted token, whatever was speculated, so a seed gives the
same text with and without drafts.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

_BLOCK = 256
"""Weights that are summed together when drawing, so that no running sum of all is needed."""

_SHORTLIST_THRESHOLDS = (1e-2, 1e-4, 1e-7, 0.0)
"""Weights, relative to the best token's, above which top-k looks for its tokens, in turn."""


@dataclass(frozen=True)
class SamplingParams:
    """A request's sampling settings; the names and meanings are OpenAI's and vLLM's.

    temperature 0 is greedy decoding. top_k 0, top_p 1 and min_p 0 switch a filter off.
    presence_penalty and frequency_penalty look at the generated tokens, repetition_penalty
    (CTRL, Keskar et al. 2019) at the prompt as well.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    seed: int | None = None


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log probabilities of one row. Shapes: [n_vocab] float32 -> [n_vocab] float64."""
    shifted = logits.astype(np.float64) - float(logits.max())
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
    """
    weights = np.subtract(logits, logits.max(), out=scratch)
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


class Sampler:
    """One request's sampler: its settings, its random numbers, the tokens it has emitted.

    Args:
        params: the request's settings.
        prompt: prompt tokens, which repetition_penalty looks at.
        forbidden: tokens that must never be chosen (EOS under ignore_eos).
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt: list[int],
        forbidden: frozenset[int] = frozenset(),
    ) -> None:
        self.params = params
        self._rng = np.random.Generator(np.random.Philox(params.seed))
        self._scratch: np.ndarray | None = None
        self._generated: Counter[int] = Counter()
        self._prompt = frozenset(prompt) if params.repetition_penalty != 1.0 else frozenset()
        self._forbidden = np.fromiter(forbidden, np.int64, len(forbidden))
        self._bias_ids = np.fromiter(params.logit_bias.keys(), np.int64, len(params.logit_bias))
        self._bias = np.fromiter(params.logit_bias.values(), np.float32, len(params.logit_bias))
        self._penalises = (
            params.presence_penalty != 0.0
            or params.frequency_penalty != 0.0
            or params.repetition_penalty != 1.0
        )
        self._adjusts = self._penalises or len(self._bias) > 0 or len(self._forbidden) > 0

    def sample(self, logits: np.ndarray) -> int:
        """Choose the next token from its row [n_vocab] float32, which is left unchanged."""
        adjusted = self._adjust(logits)
        if self.params.temperature <= 0.0:
            token = int(adjusted.argmax())
        else:
            if self._scratch is None:
                self._scratch = np.empty_like(logits)
            ids, weights = candidates(adjusted, self.params, self._scratch)
            token = int(ids[draw(weights, self._rng.random())])
        self._generated[token] += 1
        return token

    def _adjust(self, logits: np.ndarray) -> np.ndarray:
        """Logits after bias, bans and penalties; the row itself when there are none."""
        if not self._adjusts:
            return logits
        row = logits.copy()
        row[self._bias_ids] += self._bias
        if self._penalises:
            self._penalise(row, self._generated)
        row[self._forbidden] = -np.inf
        return row

    def _penalise(self, row: np.ndarray, seen: Counter[int]) -> None:
        repetition = self.params.repetition_penalty
        if repetition != 1.0:
            ids = np.fromiter(self._prompt | seen.keys(), np.int64)
            values = row[ids]
            row[ids] = np.where(values > 0, values / repetition, values * repetition)
        if seen:
            ids = np.fromiter(seen.keys(), np.int64, len(seen))
            counts = np.fromiter(seen.values(), np.float32, len(seen))
            row[ids] -= self.params.presence_penalty + self.params.frequency_penalty * counts
