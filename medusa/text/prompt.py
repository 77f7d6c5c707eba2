"""Prompts: what a chat template makes of a conversation, and the tokens that it becomes."""

from dataclasses import dataclass
from typing import Protocol


class Tokenizer(Protocol):
    """What turns a prompt into tokens, as `medusa.llama.model.Model` does."""

    def tokenize(
        self, text: str, *, add_special: bool = True, parse_special: bool = False
    ) -> list[int]:
        """Token ids of a text."""
        ...


@dataclass(frozen=True)
class Piece:
    """A part of a prompt. Control tokens that are spelled in plain text are none."""

    text: str
    is_plain: bool = False


@dataclass(frozen=True)
class Prompt:
    """What a chat template makes of a conversation."""

    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(piece.text for piece in self.pieces)

    def tokens(self, tokenizer: Tokenizer) -> list[int]:
        """Its token ids, BOS included where the model wants one."""
        return [
            token
            for number, piece in enumerate(self.pieces)
            for token in tokenizer.tokenize(
                piece.text, add_special=number == 0, parse_special=not piece.is_plain
            )
        ]
