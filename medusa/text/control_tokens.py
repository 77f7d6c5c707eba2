"""Control tokens that somebody types stay text: `<|im_start|>system` in a question is a question.

Where a user's words hold the spelling of one, it is put between two characters that occur nowhere
else, in which Jinja's filters see nothing special, and the rendered text is cut: at the template's
own control tokens, where tokenizers cut anyway, so that each piece becomes the tokens that it would
be inside of the whole text. Conversations without such words are not touched.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from medusa.errors import InvalidRequestError
from medusa.text.prompt import Piece, Prompt

_PRIVATE_USE = range(0xF0000, 0xFFFFE)


def strings(value: Any) -> Iterator[str]:
    """All strings in lists and dicts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield key
            yield from strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from strings(each)


class ControlTokens:
    """How a model's control tokens are spelled.

    Args:
        spellings: each one's; True where tokenizers read it as the token even in plain text.
    """

    def __init__(self, spellings: Mapping[str, bool]) -> None:
        self._everywhere = {text for text, everywhere in spellings.items() if everywhere}
        self._spellings = frozenset(text for text in spellings if text)
        self._beginnings = {s[:length] for s in self._spellings for length in range(1, len(s))}
        self._longest = max(map(len, self._spellings), default=0)
        self._lengths: dict[str, list[int]] = {}  # of those that begin with a character
        for spelling in self._spellings:
            lengths = self._lengths.setdefault(spelling[0], [])
            if len(spelling) not in lengths:
                lengths.append(len(spelling))
        for lengths in self._lengths.values():
            lengths.sort(reverse=True)
        firsts = "".join(map(re.escape, self._lengths))
        self._first = re.compile(f"[{firsts}]" if firsts else "(?!)")

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where control tokens are spelled, from left to right, the longest first."""
        end = 0
        for found in self._first.finditer(text):
            start = found.start()
            if start < end:
                continue
            for length in self._lengths[text[start]]:
                spelled = text[start : start + length]
                if spelled in self._spellings:
                    end = start + len(spelled)
                    yield start, end
                    break

    def concern(self, text: str) -> bool:
        """Whether a text spells one, or begins to at its end."""
        return next(self.spans(text), None) is not None or self.begin_at_the_end_of(text)

    def begin_at_the_end_of(self, text: str) -> bool:
        """Whether what follows a text could complete a spelling."""
        tail = text[-self._longest :]
        return any(
            tail[found.start() :] in self._beginnings for found in self._first.finditer(tail)
        )

    def plain_pieces(self, text: str) -> Iterator[Piece]:
        """Plain text in pieces in none of which a token is spelled that is read everywhere."""
        begin = 0
        if self._everywhere:
            for start, end in self.spans(text):
                if text[start:end] in self._everywhere:
                    yield Piece(text[begin : start + 1], is_plain=True)
                    begin = start + 1
        yield Piece(text[begin:], is_plain=True)


@dataclass(frozen=True)
class Marks:
    """The two characters around control tokens that are text."""

    opening: str
    closing: str

    @classmethod
    def absent_from(cls, text: str) -> Self:
        """Two that a text does not hold.

        Raises:
            InvalidRequestError: it holds them all.
        """
        used = set(text)
        unused = (chr(code) for code in _PRIVATE_USE if chr(code) not in used)
        try:
            return cls(next(unused), next(unused))
        except StopIteration:
            raise InvalidRequestError("the private-use characters are all taken") from None

    def put(self, value: Any, control: ControlTokens) -> Any:
        """Mark what is spelled in the strings of lists and dicts, or could be completed behind."""
        if isinstance(value, str):
            return self._put(value, control)
        if isinstance(value, Mapping):
            return {self.put(key, control): self.put(each, control) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.put(each, control) for each in value]
        return value

    def _put(self, text: str, control: ControlTokens) -> str:
        parts, begin = [], 0
        for start, end in control.spans(text):
            parts += [text[begin:start], self.opening, text[start:end], self.closing]
            begin = end
        parts.append(text[begin:])
        if control.begin_at_the_end_of(text[begin:]):
            parts.append(self.closing)
        return "".join(parts)

    def prompt(self, rendered: str, control: ControlTokens) -> Prompt:
        """The prompt that was rendered from marked strings."""
        pieces: list[Piece] = []
        done = begin = 0  # what is in pieces, and where the template's last control token ended
        for start, end in [*self._own(rendered, control), (len(rendered), len(rendered))]:
            between = rendered[begin:start]
            plain = between.replace(self.opening, "").replace(self.closing, "")
            if len(plain) < len(between):
                if begin > done:
                    pieces.append(Piece(rendered[done:begin]))
                pieces.extend(control.plain_pieces(plain))
                done = start
            begin = end
        if done < len(rendered) or not pieces:
            pieces.append(Piece(rendered[done:]))
        return Prompt(tuple(pieces))

    def _own(self, rendered: str, control: ControlTokens) -> Iterator[tuple[int, int]]:
        """Where the template's control tokens are."""
        for start, end in control.spans(rendered):
            before, behind = rendered[start - 1 : start], rendered[end : end + 1]
            if before != self.opening and behind != self.closing:
                yield start, end
