"""What bodies and answers of several dialects have in common."""

from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
)

from app.dialects.limited import Text

Part = TypeVar("Part")

TextOr = Annotated[
    Annotated[Text, Tag("text")] | Annotated[list[Part], Field(fail_fast=True), Tag("list")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "list"),
]
"""A text, or a list; what is wrong with a list is told of its first part at fault."""

TextOrOther = Annotated[
    Annotated[Text, Tag("text")] | Annotated[Part, Tag("other")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "other"),
]
"""A text, or something else; what is wrong is told of what it is."""


class NullsLeftOut(BaseModel):
    """Part of an answer in which what is null is not told."""

    @model_serializer(mode="wrap")
    def _leave_out_nulls(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        return {name: value for name, value in fields.items() if value is not None}
