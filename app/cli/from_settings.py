"""Commands of the command line made from settings models."""

import inspect
import os
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.settings import Settings
from app.settings.option import Option, options_of

Chosen = TypeVar("Chosen", bound=Settings)


def command(run: Callable[[Chosen], None]) -> Callable[..., None]:
    """A function whose parameters, as Typer reads them, are the options that `run` wants.

    Args:
        run: its one parameter, `settings`, says by its type which options there are; its
            docstring is the command's help text.
    """
    model: type[Chosen] = get_type_hints(run)["settings"]
    options = options_of(model)

    def declared(**values: Any) -> None:
        try:
            settings = model(**{**values, **_empty_variables(options, values)})
        except ValidationError as error:
            raise _explain(error.errors()[0], options) from None
        run(settings)

    parameters = [_parameter(option) for option in options]
    declared.__doc__ = run.__doc__
    declared.__annotations__ = {part.name: part.annotation for part in parameters}
    declared.__dict__["__signature__"] = inspect.Signature(parameters)
    return declared


def _parameter(option: Option) -> inspect.Parameter:
    """The option in Typer's words."""
    required, default = option.field.is_required(), option.field.default
    described: dict[str, Any] = {
        "envvar": option.variable,
        "help": option.opt.help,
        "metavar": option.opt.metavar,
        "min": option.opt.ge,
        "max": option.opt.le,
        "show_default": option.opt.unset or True,
    }
    if option.opt.positional:
        info: Any = typer.Argument(**described)
    else:
        flags = [option.flag] if option.negation is None else [f"{option.flag}/{option.negation}"]
        info = typer.Option(*flags, *filter(None, [option.opt.short]), **described)
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else default,
        annotation=Annotated[option.kind if required else option.kind | None, info],
    )


def _empty_variables(options: Iterable[Option], values: dict[str, Any]) -> dict[str, str]:
    """Values from variables that are there but empty, which Typer takes for missing ones."""
    return {
        option.name: ""
        for option in options
        if option.opt.empty_counts
        and values[option.name] is None
        and os.environ.get(option.variable or "") == ""
    }


def _explain(error: ErrorDetails, options: Iterable[Option]) -> typer.BadParameter:
    """The one line that tells what is wrong with which option."""
    message = str(error.get("ctx", {}).get("error", error["msg"]))
    hints = [_hint(option) for option in options if option.name in error["loc"]]
    return typer.BadParameter(message, param_hint=" ".join(hints) or None)


def _hint(option: Option) -> str:
    """The option as Typer names it in its own messages."""
    return f"'{option.flag}'" + (f" (env var: '{option.variable}')" if option.variable else "")
