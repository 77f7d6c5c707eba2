"""The tokens of a model: their bytes, their kinds, and texts made of them."""

import ctypes
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from medusa.errors import InvalidRequestError, ModelLoadError


def check_token_ids(tokens: Collection[int], n_vocab: int, field: str) -> None:
    """See to it that tokens are in the vocabulary.

    Raises:
        InvalidRequestError: one is not; names the field.
    """
    if tokens and not (min(tokens) >= 0 and max(tokens) < n_vocab):
        raise InvalidRequestError(f"token ids must be between 0 and {n_vocab - 1}", field=field)


@dataclass(frozen=True)
class FimTokens:
    """Tokens around a text that is to be filled in; the last two are -1 where there are none."""

    prefix: int
    suffix: int
    middle: int
    repository: int
    file: int


class Vocabulary:
    """The vocabulary in a model that llama.cpp has loaded.

    Args:
        llama_cpp: the module of llama.cpp's C functions.
        model: a llama_model.

    Raises:
        ModelLoadError: the model has no vocabulary.
    """

    def __init__(self, llama_cpp: Any, model: Any) -> None:
        self._lib = llama_cpp
        self.vocab_handle = llama_cpp.llama_model_get_vocab(model)
        none = llama_cpp.LLAMA_VOCAB_TYPE_NONE  # llama.cpp aborts when asked to tokenise with it
        if not self.vocab_handle or llama_cpp.llama_vocab_type(self.vocab_handle) == none:
            raise ModelLoadError("the model has no vocabulary")
        self.n_vocab: int = llama_cpp.llama_vocab_n_tokens(self.vocab_handle)

    @cached_property
    def pieces(self) -> list[bytes]:
        """The bytes each token stands for, special tokens spelled out. Length n_vocab.

        Raises:
            ModelLoadError: llama.cpp cannot spell one.
        """
        return [self._piece(token) for token in range(self.n_vocab)]

    @cached_property
    def eog_tokens(self) -> frozenset[int]:
        """Tokens that end a generation (EOS, EOT and the like)."""
        is_eog = self._lib.llama_vocab_is_eog
        return frozenset(t for t in range(self.n_vocab) if is_eog(self.vocab_handle, t))

    @cached_property
    def control_tokens(self) -> frozenset[int]:
        """Tokens that steer the model and are not part of the text it writes."""
        is_control = self._lib.llama_vocab_is_control
        return frozenset(t for t in range(self.n_vocab) if is_control(self.vocab_handle, t))

    @cached_property
    def control_spellings(self) -> dict[str, bool]:
        """How tokens that steer the model are spelled; True: even plain text is read as the token.

        llama.cpp does that with user-defined tokens, which steer where they look <|like this|>.
        """
        spellings: dict[str, bool] = {}
        control = self._lib.LLAMA_TOKEN_ATTR_CONTROL | self._lib.LLAMA_TOKEN_ATTR_UNKNOWN
        for token, piece in enumerate(self.pieces):
            attributes = self._lib.llama_vocab_get_attr(self.vocab_handle, token)
            spelling = piece.decode("utf-8", "replace")
            if attributes & control:
                spellings[spelling] = False
            elif attributes & self._lib.LLAMA_TOKEN_ATTR_USER_DEFINED and _STEERS.match(spelling):
                spellings[spelling] = True
        return spellings

    @property
    def bos_token(self) -> int:
        """Id of the beginning-of-sequence token, -1 when the vocabulary has none."""
        return int(self._lib.llama_vocab_bos(self.vocab_handle))

    @property
    def eos_token(self) -> int:
        """Id of the end-of-sequence token, -1 when the vocabulary has none."""
        return int(self._lib.llama_vocab_eos(self.vocab_handle))

    @property
    def fim_tokens(self) -> FimTokens | None:
        """Those for filling in the middle, if there are any."""
        names = ("pre", "suf", "mid", "rep", "sep")
        ids = [int(getattr(self._lib, f"llama_vocab_fim_{n}")(self.vocab_handle)) for n in names]
        return FimTokens(*ids) if min(ids[:3]) >= 0 else None

    @property
    def adds_bos(self) -> bool:
        """Whether tokenising with special tokens puts BOS in front."""
        return bool(self._lib.llama_vocab_get_add_bos(self.vocab_handle))

    def pair(self, first: str, second: str) -> list[int]:
        """Token ids of two texts as rerankers read them: [BOS]first[EOS][SEP]second[EOS].

        Each special token only where the model is set up to have it; see format_prompt_rerank of
        llama.cpp's tools/server/server-common.cpp.

        Raises:
            InvalidRequestError: llama.cpp cannot tokenise it.
        """
        vocab, lib = self.vocab_handle, self._lib
        sep = int(lib.llama_vocab_sep(vocab))
        eos = [self.eos_token if self.eos_token >= 0 else sep]
        ends = eos if lib.llama_vocab_get_add_eos(vocab) else []
        return [
            *([self.bos_token] if self.adds_bos else []),
            *self.tokenize(first, add_special=False),
            *ends,
            *([sep] if lib.llama_vocab_get_add_sep(vocab) else []),
            *self.tokenize(second, add_special=False),
            *ends,
        ]

    def tokenize(
        self, text: str, *, add_special: bool = True, parse_special: bool = False
    ) -> list[int]:
        """Token ids of a text.

        Args:
            text: any text; lone surrogates are encoded as they are.
            add_special: put BOS/EOS around the text if the model is set up to do so. A BOS that
                the text begins with is enough.
            parse_special: read special tokens such as <|im_start|> as tokens, not as text.

        Raises:
            InvalidRequestError: llama.cpp cannot tokenise it.
        """
        raw = text.encode("utf-8", "surrogatepass")
        capacity = len(raw) + 8
        for _ in range(2):  # the second time with the room that llama.cpp asked for
            buffer = (self._lib.llama_token * capacity)()
            count = self._lib.llama_tokenize(
                self.vocab_handle, raw, len(raw), buffer, capacity, add_special, parse_special
            )
            if count >= 0:
                twice = add_special and self.adds_bos and buffer[:2] == [self.bos_token] * 2
                return list(buffer[twice:count])
            if count == _OVERFLOW:
                break
            capacity = -count
        raise InvalidRequestError(f"llama.cpp cannot tokenise this text of {len(raw)} bytes")

    def prompt_text(self, tokens: Sequence[int]) -> bytes:
        """The text of a prompt's tokens, in UTF-8 if they are whole characters.

        Without what tokenising puts in front of a text: BOS, and SentencePiece's space.

        Raises:
            InvalidRequestError: a token is not in the vocabulary.
        """
        check_token_ids(tokens, self.n_vocab, "prompt")
        bos = int(self.adds_bos and list(tokens[:1]) == [self.bos_token])
        text = b"".join(self.pieces[token] for token in tokens[bos:])
        return text.removeprefix(b" ") if self._adds_space else text

    @cached_property
    def _adds_space(self) -> bool:
        return self.pieces[self.tokenize("a", add_special=False)[0]].startswith(b" ")

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of a token list; bytes that are not UTF-8 become U+FFFD."""
        pieces = self.pieces
        return b"".join(pieces[t] for t in tokens).decode("utf-8", "replace")

    def _piece(self, token: int) -> bytes:
        size = 64
        for _ in range(2):  # the second time with the room that llama.cpp asked for
            buffer = ctypes.create_string_buffer(size)
            length = self._lib.llama_token_to_piece(self.vocab_handle, token, buffer, size, 0, True)
            if length >= 0:
                return buffer.raw[:length]
            if length == _OVERFLOW:
                break
            size = -length
        raise ModelLoadError(f"llama.cpp cannot spell token {token}")


_STEERS = re.compile(r"<\|.+\|>$", re.DOTALL)

_OVERFLOW = -(2**31)
"""More tokens or bytes than an int32 counts."""
