"""Tokens that must not be chosen, whatever their logits."""

from collections.abc import Iterable

import numpy as np

from medusa.sampling.history import History
from medusa.sampling.params import SamplingParams


class Bans:
    """What may not come next in one request.

    Args:
        params: the request's settings.
        history: its tokens.
        forbidden: tokens that never may.
        ends: tokens that end the text, which may not before min_tokens.
    """

    def __init__(
        self,
        params: SamplingParams,
        history: History,
        forbidden: Iterable[int] = (),
        ends: Iterable[int] = (),
    ) -> None:
        single = {word[0] for word in params.bad_words if len(word) == 1}
        self._never = _ids({*forbidden, *single})
        self._ends = _ids(ends)
        self._runs = [np.array(word, np.int32) for word in params.bad_words if len(word) > 1]
        self._allowed = None if params.allowed_tokens is None else _ids(params.allowed_tokens)
        self._min_tokens = params.min_tokens
        self._history = history

    @property
    def are_any(self) -> bool:
        """Whether anything is ever banned."""
        ends = self._min_tokens > 0 and len(self._ends) > 0
        return len(self._never) > 0 or bool(self._runs) or self._allowed is not None or ends

    def apply(self, row: np.ndarray) -> None:
        """Set logits [n_vocab] float32 of what is banned to -inf, in place."""
        if self._allowed is not None:
            kept = row[self._allowed]
            row[:] = -np.inf
            row[self._allowed] = kept
        row[self._never] = -np.inf
        generated = self._history.generated
        if len(generated) < self._min_tokens:
            row[self._ends] = -np.inf
        for run in self._runs:
            begun = len(run) - 1
            if len(generated) >= begun and np.array_equal(generated[-begun:], run[:-1]):
                row[run[-1]] = -np.inf


def _ids(tokens: Iterable[int]) -> np.ndarray:
    return np.array(sorted(tokens), np.int64)
