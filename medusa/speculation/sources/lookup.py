"""Prompt lookup: what followed the newest tokens when they stood in the text before.

Drafting by n-gram matches in the request's own prompt and answer: Saxena 2023, "Prompt lookup
decoding"; Yang et al. 2023, "Inference with reference".
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

_SIZES = (4, 3, 2, 1)
_LONGEST = 16
"""Longer matches count as that long."""

_LENGTHS = (2, 3, 4, 5, 8, 16)  # where the next bucket begins; the first holds 1
_PRIOR_TRIALS = 8.0
_FADING = 0.97


class Evidence(IntEnum):
    """What the text says of a token that followed an n-gram."""

    ONCE = 0  # the n-gram stands nowhere else
    TWICE = 1  # the same token follows at its newest other place
    CONTRARY = 2  # another token follows there


_PRIOR = (
    (0.28, 0.51, 0.62, 0.65, 0.72, 0.84, 0.93),
    (0.51, 0.74, 0.80, 0.87, 0.90, 0.95, 0.98),
    (0.14, 0.26, 0.25, 0.26, 0.29, 0.45, 0.57),
)
"""How often a copied token was right, by evidence and length of the match: counted on the default
model's answers to 873 prompts of its training."""


class Ground(NamedTuple):
    """What the chance of a copied token is estimated from."""

    evidence: Evidence
    bucket: int  # of the length of the match

    @classmethod
    def of(cls, evidence: Evidence, length: int) -> "Ground":
        """For a token after a match of `length` tokens."""
        return cls(evidence, bisect_right(_LENGTHS, length))


@dataclass(frozen=True)
class Continuation:
    """Tokens that may come next, one after the other."""

    tokens: tuple[int, ...] = ()
    chances: tuple[float, ...] = ()  # of each, given that those before it are right
    grounds: tuple[Ground, ...] = ()


class NgramIndex:
    """Where every n-gram of a growing text was seen last. Constant time per token."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._last: dict[tuple[int, ...], tuple[int, Evidence]] = {}  # where it ends

    def extend(self, tokens: Sequence[int]) -> None:
        """Add tokens to the text."""
        text, last = self._tokens, self._last
        for token in tokens:
            end = len(text)  # n-grams that end here can be looked up once something follows them
            for size in _SIZES:
                if end >= size:
                    ngram = tuple(text[end - size :])
                    before = last.get(ngram)
                    seen = Evidence.ONCE if before is None else self._compare(before[0], token)
                    last[ngram] = (end, seen)
            text.append(token)

    def __len__(self) -> int:
        return len(self._tokens)

    def match(self) -> tuple[int, int]:
        """Where the newest tokens stood last, and how many of them match there (0: no place).

        Looks for the newest 4 tokens, then 3, 2 and 1.
        """
        text = self._tokens
        for size in _SIZES:
            end, _ = self._last.get(tuple(text[-size:]), (0, Evidence.ONCE))
            if end:
                length = size
                while length < min(end, _LONGEST) and text[end - 1 - length] == text[-1 - length]:
                    length += 1
                return end, length
        return 0, 0

    def following(self, end: int, length: int, count: int) -> Iterator[tuple[int, Evidence]]:
        """What followed there, after a match of `length` tokens, and what speaks for it.

        Past the end of the text it goes on from there: text may repeat.
        """
        text, period = self._tokens, len(self._tokens) - end
        for depth in range(count):
            place = end + depth % period
            seen = self._evidence(place, length + depth) if depth < period else Evidence.ONCE
            yield text[place], seen

    def _evidence(self, place: int, length: int) -> Evidence:
        """Of the token at `place` after the `length` tokens before it, or the last 4 of them."""
        text = self._tokens
        size = min(length, _SIZES[0])
        end, evidence = self._last[tuple(text[place - size : place])]
        return evidence if end == place else self._compare(end, text[place])

    def _compare(self, end: int, token: int) -> Evidence:
        return Evidence.TWICE if self._tokens[end] == token else Evidence.CONTRARY


class Lookup:
    """Continuations for one request, and how often they were right in it."""

    def __init__(self) -> None:
        self._index = NgramIndex()
        self._trials = [[_PRIOR_TRIALS] * len(row) for row in _PRIOR]
        self._hits = [[_PRIOR_TRIALS * chance for chance in row] for row in _PRIOR]

    def extend(self, tokens: Sequence[int]) -> None:
        """Add tokens of the prompt or the answer."""
        self._index.extend(tokens)

    def __len__(self) -> int:
        return len(self._index)

    def continuation(self, count: int) -> Continuation | None:
        """Up to `count` tokens."""
        end, length = self._index.match()
        if not length or count <= 0:
            return None
        tokens, evidence = zip(*self._index.following(end, length, count), strict=True)
        grounds = tuple(Ground.of(seen, length + i) for i, seen in enumerate(evidence))
        chances = tuple(self._hits[e][bucket] / self._trials[e][bucket] for e, bucket in grounds)
        return Continuation(tokens, chances, grounds)

    def observe(self, ground: Ground, right: bool) -> None:
        """Take in whether a token that was copied on this ground was right."""
        hits, trials = self._hits[ground.evidence], self._trials[ground.evidence]
        trials[ground.bucket] = trials[ground.bucket] * _FADING + 1.0
        hits[ground.bucket] = hits[ground.bucket] * _FADING + right
