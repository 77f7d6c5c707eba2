"""Which tokens of an answer were guessed, for clients that ask with `return_drafts`; our own."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

from medusa.text.pieces import TextStream


class DraftedToken(BaseModel):
    """A token: the text it completes, and who guessed it (heads, lookup, ...); null: nobody."""

    token: str
    source: str | None


class DraftsIfAsked(BaseModel):
    """A choice whose `drafts` are sent only where they were asked for."""

    drafts: list[DraftedToken] | None = None

    @model_serializer(mode="wrap")
    def _leave_out_unasked(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        if self.drafts is None:
            del fields["drafts"]
        return fields


class DraftTexts:
    """Puts one answer's tokens into words while they come.

    Args:
        pieces: the bytes of each token of the vocabulary.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self._text = TextStream()

    def feed(
        self, tokens: Iterable[int], sources: Iterable[str | None]
    ) -> list[DraftedToken] | None:
        """The next tokens; half a character is told with its other half. None: none were told."""
        return [
            DraftedToken(token=self._text.feed(self._pieces[token]).text, source=source)
            for token, source in zip(tokens, sources, strict=False)
        ] or None
