"""Tokens that must not be chosen, whatever their logits."""

from collections.abc import Iterable, Iterator

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
        biased = {token for token, bias in params.logit_bias.items() if bias == -np.inf}
        self._never = _ids({*forbidden, *single, *biased})
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
        for banned in self._banned():
            row[banned] = -np.inf

    def forbid(self, token: int) -> bool:
        """Whether this one is banned."""
        if self._allowed is not None and token not in self._allowed:
            return True
        return any(token in banned for banned in self._banned())

    def _banned(self) -> Iterator[np.ndarray]:
        """Ids of what must not come next, as far as that is listed."""
        yield self._never
        generated = self._history.generated
        if len(generated) < self._min_tokens:
            yield self._ends
        for run in self._runs:
            begun = len(run) - 1
            if len(generated) >= begun and np.array_equal(generated[-begun:], run[:-1]):
                yield run[-1:]


def _ids(tokens: Iterable[int]) -> np.ndarray:
    return np.array(sorted(tokens), np.int64)
