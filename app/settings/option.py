"""An option as a field of a settings model declares it, whoever shows it: command line, README."""

import enum
import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from annotated_types import BaseMetadata, Ge, GroupedMetadata, Le
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

ENVIRONMENT_PREFIX = "LLAMA_MEDUSA_"


@dataclass(frozen=True, kw_only=True)
class Opt(GroupedMetadata):
    """What a field says of its option besides type and default: help text, bounds, how it is typed.

    Args:
        help: what it means.
        ge: the least value.
        le: the largest value.
        short: a flag besides `--name`.
        metavar: what stands for the value in help texts.
        unset: what it means not to give it, where the default does not say so.
        positional: it is told by its place, not by a flag.
        variable: its environment variable; True: named like the option; False: it has none, for
            what one command is asked to do must not come from what another one was.
        empty_counts: an empty variable is a value, not the lack of one.
    """

    help: str
    ge: float | None = None
    le: float | None = None
    short: str | None = None
    metavar: str | None = None
    unset: str | None = None
    positional: bool = False
    variable: str | bool = False
    empty_counts: bool = False

    def __iter__(self) -> Iterator[BaseMetadata]:
        """The bounds, as pydantic checks them."""
        if self.ge is not None:
            yield Ge(self.ge)
        if self.le is not None:
            yield Le(self.le)


@dataclass(frozen=True)
class Option:
    """One option of a command, or one of its arguments."""

    name: str
    field: FieldInfo
    opt: Opt

    @property
    def flag(self) -> str:
        """The option as it is typed."""
        if self.opt.positional:
            return self.opt.metavar or self.name.upper()
        return f"--{self.name.replace('_', '-')}"

    @property
    def negation(self) -> str | None:
        """What switches off what is on by default."""
        return f"--no-{self.flag[2:]}" if self.field.default is True else None

    @property
    def variable(self) -> str | None:
        """Its environment variable."""
        if self.opt.variable is True:
            return ENVIRONMENT_PREFIX + self.name.upper()
        return self.opt.variable or None

    @property
    def kind(self) -> Any:
        """Type of the value as it is typed: text where the settings model reads it itself."""
        if any(isinstance(part, BeforeValidator) for part in self.field.metadata):
            return str
        return _plain(self.field.annotation)

    @property
    def default_text(self) -> str:
        """The default as users type it, or what it means that there is none."""
        if self.opt.unset is not None:
            return self.opt.unset
        match self.field.default:
            case None:
                return "none"
            case enum.Enum(value=value):
                return str(value)
            case bool(value):
                return "on" if value else "off"
            case float(value):
                return f"{value:g}"
            case list(values):
                return " ".join(map(str, values))
            case value:
                return str(value)


def options_of(settings: type[BaseModel]) -> list[Option]:
    """What a settings model declares: arguments, then its own options, then inherited ones."""
    fields = settings.model_fields
    options = [
        Option(name, fields[name], _opt(fields[name]))
        for owner in settings.__mro__
        if issubclass(owner, BaseModel)
        for name in inspect.get_annotations(owner)
        if name in fields
    ]
    return sorted(options, key=lambda option: not option.opt.positional)


def _opt(field: FieldInfo) -> Opt:
    return next(part for part in field.metadata if isinstance(part, Opt))


def _plain(annotation: Any) -> Any:
    """A type without validators and without None."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        (kind,) = (part for part in get_args(annotation) if part is not type(None))
        return _plain(kind)
    return annotation
