"""Texts that break a repetition off, as the tokens that spell them; see `Dry.breakers`.

As llama.cpp finds them: a token that contains the text, and one whose end is the text's beginning,
followed by the tokens of the rest.
"""

from collections.abc import Callable, Iterable, Sequence

from medusa.sampling.params import Breakers

DEFAULT_BREAKERS = ("\n", ":", '"', "*")
_MOST_BYTES = 40
_MOST_TOKENS = 20


def breakers_of(
    texts: Iterable[str], pieces: Sequence[bytes], tokenize: Callable[[str], Sequence[int]]
) -> Breakers:
    """The runs of tokens with which texts are spelled.

    Args:
        texts: the beginning of each is looked at.
        pieces: the bytes that each token stands for.
        tokenize: without special tokens.
    """
    found: dict[int, set[tuple[int, ...]]] = {}
    for text in texts:
        spelled = text.encode()[:_MOST_BYTES]
        tails: dict[bytes, tuple[int, ...]] = {b"": ()}
        for token, piece in enumerate(pieces):
            for rest in _rests(piece, spelled):
                if rest not in tails:
                    tails[rest] = tuple(tokenize(rest.decode("utf-8", "ignore"))[:_MOST_TOKENS])
                found.setdefault(token, set()).add(tails[rest])
    return {token: tuple(sorted(tails)) for token, tails in found.items()}


def _rests(piece: bytes, text: bytes) -> Iterable[bytes]:
    """What is missing of a text after a piece that contains its beginning; nothing of all of it."""
    if text in piece:
        yield b""
    elif text[:1] in piece:
        for length in range(1, min(len(piece), len(text) - 1) + 1):
            if piece.endswith(text[:length]):
                yield text[length:]
