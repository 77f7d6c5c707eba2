"""The tokens of a request so far, and how often each of them was seen."""

from collections.abc import Sequence

import numpy as np

_LEAST_ROOM = 256


class History:
    """Prompt and generated tokens, as an array that grows.

    Args:
        prompt: tokens to begin with.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        self.n_prompt = len(prompt)
        self._n = len(prompt)
        self._room = np.empty(max(_LEAST_ROOM, 2 * len(prompt)), np.int32)
        self._room[: len(prompt)] = prompt

    def __len__(self) -> int:
        return self._n

    def append(self, token: int) -> None:
        """Take in a generated token."""
        self._room = _with_room(self._room, self._n)
        self._room[self._n] = token
        self._n += 1

    @property
    def tokens(self) -> np.ndarray:
        """[n] int32, all of them; good until the next one comes."""
        return self._room[: self._n]

    @property
    def generated(self) -> np.ndarray:
        """[n] int32, those after the prompt."""
        return self.tokens[self.n_prompt :]

    def newest(self, count: int) -> np.ndarray:
        """[at most count] int32, the last ones; -1: all."""
        return self.tokens if count < 0 else self.tokens[max(0, self._n - count) :]


class TokenCounts:
    """How often each token is in a text that grows at its end and may shrink at its beginning.

    Args:
        text: [n] int32, tokens to begin with.
    """

    def __init__(self, text: np.ndarray) -> None:
        self._ids, counts = np.unique(text, return_counts=True)
        self._counts = counts.astype(np.float32)
        self._places = {token: place for place, token in enumerate(self._ids.tolist())}

    def add(self, token: int) -> None:
        """Count a token that came."""
        n = len(self._places)
        place = self._places.setdefault(token, n)
        if place == n:
            self._ids, self._counts = _with_room(self._ids, n), _with_room(self._counts, n)
            self._ids[place], self._counts[place] = token, 0
        self._counts[place] += 1

    def remove(self, token: int) -> None:
        """Count a token that went; the last one's place is filled with another token's."""
        place = self._places[token]
        self._counts[place] -= 1
        if self._counts[place] == 0:
            del self._places[token]
            last = len(self._places)
            if place != last:
                self._ids[place], self._counts[place] = self._ids[last], self._counts[last]
                self._places[int(self._ids[place])] = place

    @property
    def ids(self) -> np.ndarray:
        """[n] int32, every token that is there, once."""
        return self._ids[: len(self._places)]

    @property
    def counts(self) -> np.ndarray:
        """[n] float32, how often."""
        return self._counts[: len(self._places)]


def _with_room(array: np.ndarray, n: int) -> np.ndarray:
    """The array, if it has more than n places, else a longer one with the same contents."""
    if n < len(array):
        return array
    longer = np.empty(max(_LEAST_ROOM, 2 * len(array)), array.dtype)
    longer[: len(array)] = array
    return longer
