"""OpenAI's predicted outputs: what an answer is likely to be, which makes it faster."""

from typing import Literal

from pydantic import BaseModel, Field

from app.backend import Backend
from app.dialects.bodies import TextOr
from app.dialects.fields import Fields
from app.dialects.limited import Text


class PredictedPart(Fields):
    """A part of a text."""

    type: Literal["text"] = "text"
    text: Text


class PredictedContent(Fields):
    """A text, or parts of one."""

    type: Literal["content"] = "content"
    content: TextOr[PredictedPart]

    @property
    def text(self) -> str:
        """All of it."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class PredictionFields(BaseModel):
    """The field by which a body says what its answer is likely to be."""

    prediction: PredictedContent | None = Field(
        None, description="Changes nothing but the speed, where much of it comes back."
    )

    async def predicted(self, backend: Backend) -> tuple[int, ...]:
        """The tokens of the prediction; none without one.

        Raises:
            InvalidRequestError: it is too long.
        """
        if self.prediction is None:
            return ()
        texts = [self.prediction.text]
        (tokens,) = await backend.tokenize(texts, add_special=False, parse_special=False)
        return tuple(tokens)
