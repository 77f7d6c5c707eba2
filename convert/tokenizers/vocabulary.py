"""A tokenizer as GGUF stores it."""

from dataclasses import dataclass, field
from typing import Self

import gguf

from convert.errors import CheckpointError

ADDED_TOKEN_SCORE = -1000.0
_SPACE_MARK = "\N{LOWER ONE EIGHTH BLOCK}"
"""What SentencePiece writes for a space."""


@dataclass(frozen=True)
class AddedToken:
    """A token beside the trained vocabulary, such as <|im_start|>."""

    id: int
    text: str
    special: bool

    @property
    def looks_special(self) -> bool:
        """Some checkpoints do not flag their control tokens; their spelling gives them away."""
        return self.special or (self.text.startswith("<|") and self.text.endswith("|>"))


@dataclass
class Vocabulary:
    """Tokens by id, with what llama.cpp's tokenizer of the given kind needs of each.

    Args:
        kind: tokenizer.ggml.model: "llama" merges by score, "gpt2" by the list of merges.
        pre: tokenizer.ggml.pre: how text is split before merging.
        add_space_prefix: whether text gets a space in front.
    """

    kind: str
    pre: str
    tokens: list[bytes]
    types: list[gguf.TokenType]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    add_space_prefix: bool | None = None

    @classmethod
    def blank(cls, kind: str, pre: str, n_vocab: int) -> Self:
        """A vocabulary of n_vocab placeholders that no text is ever turned into."""
        return cls(
            kind,
            pre,
            tokens=[f"[PAD{i}]".encode() for i in range(n_vocab)],
            types=[gguf.TokenType.UNUSED] * n_vocab,
            scores=[-10_000.0] * n_vocab if kind == "llama" else [],
        )

    def set(self, token: int, text: bytes, kind: gguf.TokenType, score: float = 0.0) -> None:
        """Define one token.

        Raises:
            CheckpointError: the model has no row for it.
        """
        if not 0 <= token < len(self.tokens):
            raise CheckpointError(
                f"the tokenizer has a token {token}, the model only {len(self.tokens)}"
            )
        self.tokens[token], self.types[token] = text, kind
        if self.scores:
            self.scores[token] = score

    def add(self, added: AddedToken) -> None:
        """Define one added token; one that the model has no row for is left out.

        A trained token of the same text keeps its type, unless the tokenizer makes it special.
        """
        if added.id >= len(self.tokens):
            return
        if self.types[added.id] in (gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL):
            kind = self.types[added.id]
        elif added.looks_special:
            kind = gguf.TokenType.CONTROL
        else:
            kind = gguf.TokenType.USER_DEFINED
        plain = kind is gguf.TokenType.USER_DEFINED
        text = added.text.replace(_SPACE_MARK, " ") if plain else added.text
        self.set(added.id, text.encode(), kind, ADDED_TOKEN_SCORE)
