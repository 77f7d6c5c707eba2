"""Where the newest n-gram of a text that grows stood before, and what followed it."""

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


class NgramText:
    """A text that grows, in which n-grams are found: as a string with a character for each token.

    It is searched anew each time, in about a nanosecond a token and search. An index would answer
    sooner in long texts, but has to be written for every token, also while nobody asks.
    """

    def __init__(self) -> None:
        self._text = ""

    def extend(self, tokens: Sequence[int]) -> None:
        """Add tokens to the text."""
        self._text += "".join(map(chr, tokens))

    def __len__(self) -> int:
        return len(self._text)

    def match(self) -> tuple[int, int]:
        """Where the newest tokens stood last, and how many of them match there (0: no place).

        Looks for the newest 4 tokens, then 3, 2 and 1.
        """
        text = self._text
        for size in _SIZES:
            if len(text) > size:
                end = self._newest_end(text[-size:], len(text) - 1)
                if end:
                    length = size
                    longest = min(end, _LONGEST)
                    while length < longest and text[end - 1 - length] == text[-1 - length]:
                        length += 1
                    return end, length
        return 0, 0

    def token(self, end: int, depth: int) -> int:
        """What followed there as the `depth`-th token.

        Past the end of the text it goes on from there: text may repeat.
        """
        return ord(self._text[end + depth % (len(self._text) - end)])

    def evidence(self, end: int, length: int, depth: int) -> Evidence:
        """What speaks for that token, after a match of `length` tokens."""
        text, place = self._text, end + depth
        if place >= len(text):
            return Evidence.ONCE
        ngram = text[place - min(length + depth, _SIZES[0]) : place]
        other = self._newest_end(ngram, len(text) - 1)
        if other == place:
            other = self._newest_end(ngram, place - 1)
        if not other:
            return Evidence.ONCE
        return Evidence.TWICE if text[other] == text[place] else Evidence.CONTRARY

    def _newest_end(self, ngram: str, most: int) -> int:
        """The last place up to `most` before which an n-gram stands; 0: none."""
        start = self._text.rfind(ngram, 0, most)
        return start + len(ngram) if start >= 0 else 0
