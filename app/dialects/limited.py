"""Types of fields that the server's limits bound."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from app.dialects.fields import BodyRules
from app.door.limits import NAMES, UNLIMITED, RequestLimits, option_of

LIMIT_EXCEEDED = "limit_exceeded"
"""Type of the errors of values that are too much."""


@dataclass(frozen=True)
class AtMost:
    """Bounds a field's value, if it is a number, else its length. Stands last in its annotation.

    Args:
        limit: the name of a field of RequestLimits.
    """

    limit: str

    def __post_init__(self) -> None:
        assert self.limit in NAMES, f"there is no limit {self.limit!r}"

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """What the field takes, looked at before anything is made of it."""
        return core_schema.with_info_before_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The field's schema, which names the option: its value is each server's own."""
        return {**handler(schema), "x-limited-by": option_of(self.limit)}

    def _checked(self, value: Any, info: ValidationInfo) -> Any:
        return checked(value, self.limit, info)


def checked(value: Any, limit: str, info: ValidationInfo) -> Any:
    """The value, if a limit allows it.

    Raises:
        PydanticCustomError: it does not.
    """
    why = limits_of(info).excess(limit, value)
    if why is not None:
        raise PydanticCustomError(LIMIT_EXCEEDED, "{why}", {"why": why})
    return value


def limits_of(info: ValidationInfo) -> RequestLimits:
    """The limits of the server that validates a body; none for what is not a client's."""
    return info.context.limits if isinstance(info.context, BodyRules) else UNLIMITED


Text = Annotated[str, AtMost("max_text")]
Phrase = Annotated[str, AtMost("max_phrase")]
Word = Annotated[str, Field(min_length=1), AtMost("max_phrase")]
Choices = Annotated[int, Field(ge=1), AtMost("max_choices")]
TopLogprobs = Annotated[int, Field(ge=0), AtMost("max_top_logprobs")]
