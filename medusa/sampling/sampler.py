"""Choosing one token from one row of logits.

The order is that of vLLM and Hugging Face: logit bias and penalties, what a constraint and bans
rule out, temperature, then top-k, top-p and min-p on the resulting distribution, then one draw of
the request's own random numbers.
Exactly one draw is spent for each emitted token, whatever was speculated, so a seed gives the
same text with and without drafts.
"""

from collections import Counter

import numpy as np

from medusa.sampling.constraints import NothingAllowedError, TokenConstraint
from medusa.sampling.draw import candidates, checked_peak, draw
from medusa.sampling.params import SamplingParams


class Sampler:
    """One request's sampler: its settings, its random numbers, the tokens it has emitted.

    Args:
        params: the request's settings.
        prompt: prompt tokens, which repetition_penalty looks at.
        forbidden: tokens that must never be chosen (EOS under ignore_eos).
        constraint: what may come next; told of every token that is chosen.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt: list[int],
        forbidden: frozenset[int] = frozenset(),
        constraint: TokenConstraint | None = None,
    ) -> None:
        self.params = params
        self.constraint = constraint
        self._rng = np.random.Generator(np.random.Philox(params.seed))
        self._scratch: np.ndarray | None = None
        self._tokens = list(prompt)  # and what was generated
        self._n_prompt = len(prompt)
        self._forbidden = np.fromiter(forbidden, np.int64, len(forbidden))
        self._bias_ids = np.fromiter(params.logit_bias.keys(), np.int64, len(params.logit_bias))
        self._bias = np.fromiter(params.logit_bias.values(), np.float32, len(params.logit_bias))
        self._penalises = (
            params.presence_penalty != 0.0
            or params.frequency_penalty != 0.0
            or params.repetition_penalty != 1.0
        )
        self._adjusts = (
            self._penalises
            or constraint is not None
            or len(self._bias) > 0
            or len(self._forbidden) > 0
        )

    def sample(self, logits: np.ndarray) -> int:
        """Choose the next token from its row [n_vocab] float32, which is left unchanged.

        Raises:
            NothingAllowedError: the constraint leaves no token.
            NotNumbersError: the logits are none.
        """
        adjusted = self._adjust(logits)
        if self.params.is_greedy:
            token = int(adjusted.argmax())
            checked_peak(float(adjusted[token]))
        else:
            if self._scratch is None:
                self._scratch = np.empty_like(logits)
            ids, weights = candidates(adjusted, self.params, self._scratch)
            token = int(ids[draw(weights, self._rng.random())])
        self._tokens.append(token)
        if self.constraint is not None:
            self.constraint.accept(token)
        return token

    def _adjust(self, logits: np.ndarray) -> np.ndarray:
        """Logits after bias, penalties, constraint and bans; the row itself without any."""
        if not self._adjusts:
            return logits
        row = logits.copy()
        row[self._bias_ids] += self._bias
        if self._penalises:
            self._penalise(row)
        if self.constraint is not None:
            self.constraint.mask(row)
        row[self._forbidden] = -np.inf
        if self.constraint is not None and row.max() == -np.inf:
            raise NothingAllowedError(
                "no token may come next: what the constraint allows is forbidden otherwise, or "
                "it allows nothing"
            )
        return row

    def _penalise(self, row: np.ndarray) -> None:
        repetition = self.params.repetition_penalty
        last_n = self.params.penalty_last_n
        start = 0 if last_n < 0 else max(0, len(self._tokens) - last_n)
        seen = Counter(self._tokens[max(start, self._n_prompt) :])
        if repetition != 1.0:
            ids = np.fromiter(set(self._tokens[start:]), np.int64)
            values = row[ids]
            row[ids] = np.where(values > 0, values / repetition, values * repetition)
        if seen:
            ids = np.fromiter(seen.keys(), np.int64, len(seen))
            counts = np.fromiter(seen.values(), np.float32, len(seen))
            row[ids] -= self.params.presence_penalty + self.params.frequency_penalty * counts
