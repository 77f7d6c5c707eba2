"""Choosing one token from one row of logits.

The order is that of vLLM and Hugging Face: logit bias and penalties, temperature, then top-k,
top-p and min-p on the resulting distribution, then one draw of the request's own random numbers.
Exactly one draw is spent for each emitted token, whatever was speculated, so a seed gives the
same text with and without drafts.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

_NEGLIGIBLE_NATS = 40.0
"""Tokens this far below the best one (in nats, after temperature) carry less than 1e-12 of the
mass of any vocabulary and are left out before exponentiating."""

_FIRST_SORTED = 256
"""How many tokens top-p sorts before it falls back to sorting all of them."""


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


def probabilities(logits: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, np.ndarray]:
    """The distribution that temperature, top-k, top-p and min-p leave over.

    Args:
        logits: [n_vocab] float32, penalties already applied; temperature must be above 0.

    Returns:
        Token ids [n] int64 and their probabilities [n] float64, which sum to 1. The ids come in
        descending order of probability where a filter needed sorting, else ascending by id.
    """
    scaled = logits / np.float32(params.temperature)
    best = scaled.max()
    ids = np.flatnonzero(scaled > best - np.float32(_NEGLIGIBLE_NATS))
    weights = np.exp((scaled[ids] - best).astype(np.float64))
    if params.top_k and params.top_k < len(ids):
        order = _descending(weights, params.top_k)
        ids, weights = ids[order], weights[order]
    if params.top_p < 1.0:
        order = _nucleus(weights, params.top_p)
        ids, weights = ids[order], weights[order]
    if params.min_p > 0.0:
        likely = weights >= params.min_p * weights.max()
        ids, weights = ids[likely], weights[likely]
    return ids, weights / weights.sum()


def _descending(weights: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest weights, largest first, equal ones by index."""
    if count < len(weights):
        threshold = -np.partition(-weights, count - 1)[count - 1]
        chosen = np.flatnonzero(weights >= threshold)
    else:
        chosen = np.arange(len(weights))
    return chosen[np.argsort(-weights[chosen], kind="stable")][:count]


def _nucleus(weights: np.ndarray, top_p: float) -> np.ndarray:
    """Indices of the smallest set of likeliest tokens that holds `top_p` of the mass.

    Holtzman et al. 2020, "The curious case of neural text degeneration".
    """
    wanted = top_p * weights.sum()
    for count in (_FIRST_SORTED, len(weights)):
        order = _descending(weights, count)
        mass = np.cumsum(weights[order])
        if mass[-1] >= wanted or count >= len(weights):
            break
    return order[: int(np.searchsorted(mass, wanted)) + 1]


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

    def sample(self, logits: np.ndarray) -> int:
        """Choose the next token from its row [n_vocab] float32, which is left unchanged."""
        adjusted = self._adjust(logits)
        if self.params.temperature <= 0.0:
            token = int(adjusted.argmax())
        else:
            ids, probs = probabilities(adjusted, self.params)
            cumulative = np.cumsum(probs)
            drawn = self._rng.random() * cumulative[-1]
            index = int(np.searchsorted(cumulative, drawn, side="right"))
            token = int(ids[min(index, len(ids) - 1)])
        self._generated[token] += 1
        return token

    def _adjust(self, logits: np.ndarray) -> np.ndarray:
        """Logits after bias, bans and penalties; the row itself when there are none."""
        seen = self._generated if self._penalises else Counter()
        if not (len(self._bias) or len(self._forbidden) or seen or self._prompt):
            return logits
        row = logits.copy()
        row[self._bias_ids] += self._bias
        if self._prompt or seen:
            self._penalise(row, seen)
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
