"""Prompt lookup: what followed the newest tokens when they stood in the text before.

Drafting by n-gram matches in the request's own prompt and answer: Saxena 2023, "Prompt lookup
decoding"; Yang et al. 2023, "Inference with reference".
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

_SIZES = (4, 3, 2)
_LONGEST = 16
"""Longer matches count as that long."""

_LENGTHS = (3, 4, 5, 8, 16)  # where the next bucket begins; the first holds 2
_PRIOR = (0.60, 0.70, 0.80, 0.88, 0.93, 0.96)
_PRIOR_TRIALS = 8.0
_FADING = 0.97


@dataclass(frozen=True)
class Continuation:
    """Tokens that may come next, one after the other."""

    tokens: tuple[int, ...]
    chances: tuple[float, ...]  # of each, given that those before it are right


class NgramIndex:
    """Where every n-gram of a growing text was seen last. Constant time per token."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}

    def extend(self, tokens: Sequence[int]) -> None:
        """Add tokens to the text."""
        text, ends = self._tokens, self._ends
        for token in tokens:
            end = len(text)  # n-grams that end here can be looked up once something follows them
            for size in _SIZES:
                if end >= size:
                    ends[tuple(text[end - size :])] = end
            text.append(token)

    def __len__(self) -> int:
        return len(self._tokens)

    def match(self) -> tuple[int, int]:
        """Where the newest tokens stood last, and how many of them match there (0: no place).

        Looks for the newest 4 tokens, then 3, then 2.
        """
        text = self._tokens
        for size in _SIZES:
            end = self._ends.get(tuple(text[-size:]), 0)
            if end:
                length = size
                while length < min(end, _LONGEST) and text[end - 1 - length] == text[-1 - length]:
                    length += 1
                return end, length
        return 0, 0

    def following(self, end: int, count: int) -> tuple[int, ...]:
        """What followed there. Past the end of the text it goes on from there: text may repeat."""
        period = len(self._tokens) - end
        return tuple(self._tokens[end + i % period] for i in range(count))


class Lookup:
    """Continuations for one request, and how often they were right in it."""

    def __init__(self) -> None:
        self._index = NgramIndex()
        self._trials = [_PRIOR_TRIALS] * len(_PRIOR)
        self._hits = [_PRIOR_TRIALS * chance for chance in _PRIOR]

    def extend(self, tokens: Sequence[int]) -> None:
        """Add tokens of the prompt or the answer."""
        self._index.extend(tokens)

    def __len__(self) -> int:
        return len(self._index)

    def continuation(self, count: int) -> tuple[Continuation, int] | None:
        """Up to `count` tokens and the length of the match that suggests them."""
        end, length = self._index.match()
        if not length or count <= 0:
            return None
        tokens = self._index.following(end, count)
        rates = [hits / trials for hits, trials in zip(self._hits, self._trials, strict=True)]
        chances = tuple(rates[_bucket(length + depth)] for depth in range(count))
        return Continuation(tokens, chances), length

    def observe(self, length: int, right: bool) -> None:
        """Take in whether the token after a match of that length was right."""
        bucket = _bucket(length)
        self._trials[bucket] = self._trials[bucket] * _FADING + 1.0
        self._hits[bucket] = self._hits[bucket] * _FADING + right


def _bucket(length: int) -> int:
    return bisect_right(_LENGTHS, length)
