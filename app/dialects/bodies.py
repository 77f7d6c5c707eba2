"""What the bodies have in common that agents send: new fields come with every version of theirs."""

from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

Part = TypeVar("Part")

TextOr = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[Part], Field(fail_fast=True), Tag("list")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "list"),
]
"""A text, or a list; what is wrong with a list is told of its first part at fault."""


class Lenient(BaseModel):
    """Part of a body in which null counts as left out and unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: each for name, each in value.items() if each is not None}


class NullsLeftOut(BaseModel):
    """Part of an answer in which what is null is not told."""

    @model_serializer(mode="wrap")
    def _leave_out_nulls(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        return {name: value for name, value in fields.items() if value is not None}
