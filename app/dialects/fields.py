"""Fields of requests that are null, go by other names, are unknown, or not supported."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from app.door.limits import RequestLimits

log = logging.getLogger("app")

_MOST_NOTED = 200
_LONGEST_NAME = 64

Matters = Callable[[Any], bool]
"""Whether a value could change the answer."""


class UnknownFields:
    """What one server does about fields that it does not know.

    Args:
        strict: refuse them; else the first of each name is logged.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self._noted: set[str] = set()

    def note(self, name: str) -> None:
        """Log a name that has not been met before."""
        name = name[:_LONGEST_NAME]
        if name not in self._noted and len(self._noted) < _MOST_NOTED:
            self._noted.add(name)
            log.warning("requests hold a field %r, which is unknown here and ignored", name)


@dataclass(frozen=True)
class BodyRules:
    """What one server asks of bodies; the context of their validation."""

    limits: RequestLimits
    unknown: UnknownFields


class Fields(BaseModel):
    """An object in a request's body. A field that is null counts as left out."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    other_names: ClassVar[Mapping[str, str]] = {}
    """Further names of fields; the field's own goes first."""
    without_effect: ClassVar[frozenset[str]] = frozenset()
    """Known fields that cannot change the answer here, whatever they hold."""
    unsupported: ClassVar[Mapping[str, Matters]] = {}
    """Known fields that nothing is done about, refused where they hold what would matter."""

    @model_validator(mode="before")
    @classmethod
    def _understood(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict):
            return value
        given = {name: each for name, each in value.items() if each is not None}
        for name in cls.other_names.keys() & given.keys():
            given.setdefault(cls.other_names[name], given.pop(name))
        known = {field.alias or name for name, field in cls.model_fields.items()}
        for name in [name for name in given if name not in known]:
            cls._check(name, given[name], info.context)
        return given

    @classmethod
    def _check(cls, name: str, value: Any, context: BodyRules | None) -> None:
        """Refuse a field that is none of the model's, or ignore it."""
        if name in cls.unsupported:
            if cls.unsupported[name](value):
                raise _refusal(cls, name, PydanticCustomError("unsupported", "is not supported"))
        elif name not in cls.without_effect and context is not None:
            if context.unknown.strict:
                raise _refusal(cls, name, "extra_forbidden")
            context.unknown.note(name)


class Prioritised(BaseModel):
    """What is asked for sooner or later."""

    priority: int = Field(
        0, description="Of a key's requests, those with the lowest go first, as with vLLM."
    )


def _refusal(model: type[BaseModel], name: str, kind: str | PydanticCustomError) -> ValidationError:
    details = InitErrorDetails(type=kind, loc=(name,), input=None)
    return ValidationError.from_exception_data(model.__name__, [details])
