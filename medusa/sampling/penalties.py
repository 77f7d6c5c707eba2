"""Repetition, presence and frequency penalties, which take time for what they touch only."""

import numpy as np

from medusa.sampling.history import History, TokenCounts
from medusa.sampling.params import SamplingParams


class Penalties:
    """The penalties of one request.

    Args:
        params: the request's settings.
        history: its tokens; `accept` is told of each new one.
    """

    def __init__(self, params: SamplingParams, history: History) -> None:
        self._params = params
        self._history = history
        self._window = params.penalty_last_n
        # What the penalties look back at: tokens of the text, and of the answer.
        self._in_text = TokenCounts(history.newest(self._window))
        self._in_answer = TokenCounts(history.generated[:0])

    @staticmethod
    def are_wanted(params: SamplingParams) -> bool:
        """Whether settings have any."""
        changes = params.repetition_penalty != 1.0
        takes = params.presence_penalty != 0.0 or params.frequency_penalty != 0.0
        return params.penalty_last_n != 0 and (changes or takes)

    def accept(self, token: int) -> None:
        """Count a token that was appended to the history."""
        self._in_text.add(token)
        self._in_answer.add(token)
        gone = len(self._history) - 1 - self._window
        if self._window >= 0 and gone >= 0:
            old = int(self._history.tokens[gone])
            self._in_text.remove(old)
            if gone >= self._history.n_prompt:
                self._in_answer.remove(old)

    def apply(self, row: np.ndarray) -> None:
        """Change logits [n_vocab] float32 in place."""
        params = self._params
        if params.repetition_penalty != 1.0:
            ids, factor = self._in_text.ids, np.float32(params.repetition_penalty)
            values = row[ids]
            row[ids] = np.where(values > 0, values / factor, values * factor)
        ids = self._in_answer.ids
        if len(ids):
            row[ids] -= np.float32(params.presence_penalty) + (
                np.float32(params.frequency_penalty) * self._in_answer.counts
            )
