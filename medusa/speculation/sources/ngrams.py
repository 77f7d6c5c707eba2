"""Where every n-gram of a text that grows was seen last, and what followed it."""

from collections.abc import Sequence
from enum import IntEnum

_SIZES = (4, 3, 2, 1)
_LONGEST = 16
"""Longer matches count as that long."""


class Evidence(IntEnum):
    """What the text says of a token that followed an n-gram."""

    ONCE = 0  # the n-gram stands nowhere else
    TWICE = 1  # the same token follows at its newest other place
    CONTRARY = 2  # another token follows there


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

    def token(self, end: int, depth: int) -> int:
        """What followed there as the `depth`-th token.

        Past the end of the text it goes on from there: text may repeat.
        """
        return self._tokens[end + depth % (len(self._tokens) - end)]

    def evidence(self, end: int, length: int, depth: int) -> Evidence:
        """What speaks for that token, after a match of `length` tokens."""
        if end + depth >= len(self._tokens):
            return Evidence.ONCE
        return self._evidence(end + depth, length + depth)

    def _evidence(self, place: int, length: int) -> Evidence:
        """Of the token at `place` after the `length` tokens before it, or the last 4 of them."""
        text = self._tokens
        size = min(length, _SIZES[0])
        end, evidence = self._last[tuple(text[place - size : place])]
        return evidence if end == place else self._compare(end, text[place])

    def _compare(self, end: int, token: int) -> Evidence:
        return Evidence.TWICE if self._tokens[end] == token else Evidence.CONTRARY
