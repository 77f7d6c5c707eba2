"""Log probabilities in the two shapes that OpenAI's APIs have for them."""

import codecs
import re
from collections.abc import Iterable, Sequence

from pydantic import BaseModel

from app.backend import spell
from medusa.engine.events import TokenLogprob

_SPACES = re.compile(rb"\s*")


class TopLogprob(BaseModel):
    """A likely token at some place of the answer."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprobBody(TopLogprob):
    """A generated token and the likeliest ones in its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """Log probabilities in the format of the chat API."""

    content: list[TokenLogprobBody]


class CompletionLogprobs(BaseModel):
    """Log probabilities in the format of the completions API."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]

    def __add__(self, other: "CompletionLogprobs") -> "CompletionLogprobs":
        """These tokens and then the other's."""
        tops = None
        if self.top_logprobs is not None and other.top_logprobs is not None:
            tops = self.top_logprobs + other.top_logprobs
        return CompletionLogprobs(
            tokens=self.tokens + other.tokens,
            token_logprobs=self.token_logprobs + other.token_logprobs,
            top_logprobs=tops,
            text_offset=self.text_offset + other.text_offset,
        )


class TextOffsets:
    """Where in a text the parts begin that it comes in, in characters.

    A part that begins inside of a character is where that character is.

    Args:
        start: characters before the first part.
    """

    def __init__(self, start: int = 0) -> None:
        self._count = start
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def of(self, parts: Iterable[bytes]) -> list[int]:
        """The offset of each part, all of which follow the earlier ones."""
        offsets = []
        for part in parts:
            offsets.append(self._count)
            self._count += len(self._decoder.decode(part))
        return offsets


def prompt_parts(pieces: Sequence[bytes], tokens: Sequence[int], text: bytes) -> list[bytes]:
    """What each of a prompt's tokens stands for in its text.

    That is nothing for a BOS that was put in front. Spaces that were, here or behind a control
    token, are left out, and spaces that the tokenizer left out are in.
    """
    parts, end = [], 0
    for token in tokens:
        begin = end
        word = next(_SPACES.finditer(text, begin)).end()
        for form in (pieces[token], pieces[token].removeprefix(b" ")):
            found = next((at for at in (begin, word) if text.startswith(form, at)), None)
            if found is not None:
                end = found + len(form)
                break
        parts.append(text[begin:end])
    return parts


def completion_logprobs(
    pieces: Sequence[bytes],
    tokens: Sequence[int],
    entries: Sequence[TokenLogprob | None],
    offsets: list[int],
    with_top: bool,
) -> CompletionLogprobs:
    """The completions shape.

    Args:
        pieces: the bytes of each token of the vocabulary.
        tokens: the tokens of `entries`, which an entry of None does not tell.
        entries: their log probabilities; None for the first token of a prompt.
        offsets: characters of text before each token.
        with_top: whether alternatives were asked for.
    """
    tops = [_tops(pieces, entry) if entry else None for entry in entries]
    return CompletionLogprobs(
        tokens=[_name(pieces, token) for token in tokens],
        token_logprobs=[entry.logprob if entry else None for entry in entries],
        top_logprobs=tops if with_top else None,
        text_offset=offsets,
    )


def _tops(pieces: Sequence[bytes], entry: TokenLogprob) -> dict[str, float]:
    """The likeliest tokens and the chosen one; of two with the same bytes, the likelier."""
    tops: dict[str, float] = {}
    for token, logprob in (*entry.top, (entry.token, entry.logprob)):
        tops.setdefault(_name(pieces, token), logprob)
    return tops


def _name(pieces: Sequence[bytes], token: int) -> str:
    """A token's text, or its bytes in OpenAI's notation where they are part of a character."""
    piece = pieces[token]
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def chat_logprobs(pieces: Sequence[bytes], entries: Iterable[TokenLogprob]) -> ChatLogprobs:
    """The chat shape."""
    return ChatLogprobs(
        content=[
            TokenLogprobBody(
                **_top(pieces, entry.token, entry.logprob).model_dump(),
                top_logprobs=[_top(pieces, token, logprob) for token, logprob in entry.top],
            )
            for entry in entries
        ]
    )


def _top(pieces: Sequence[bytes], token: int, logprob: float) -> TopLogprob:
    return TopLogprob(token=spell(pieces, [token]), logprob=logprob, bytes=list(pieces[token]))
