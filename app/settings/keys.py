"""Keys as their file has them: one a line, each with what whoever has it may take."""

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, ValidationError

from app.door.keys import ApiKey, Rates
from app.settings.base import Settings
from medusa.engine.fairness import Tenant

_SETTING = re.compile(r"\s+(?=[a-z]+=)")

Rate = Annotated[int, Field(ge=1)]


class KeySettings(Settings):
    """What a line may say of its key: `KEY name=alice weight=3 rpm=60 tpm=100000`."""

    name: Annotated[str, Field(min_length=1)] | None = None
    weight: Annotated[float, Field(ge=0.001, le=1000)] = 1.0
    rpm: Rate | None = None  # requests per minute
    tpm: Rate | None = None  # tokens per minute


def read_keys(lines: Iterable[str]) -> list[ApiKey]:
    """The keys of a file's lines. A key that goes by no name is called after its place.

    Raises:
        ValueError: a line says what cannot be, or two keys have the same name.
    """
    keys = {}
    for number, line in enumerate(filter(str.strip, lines), 1):
        key, *settings = _SETTING.split(line.strip())
        said = _read(settings, number)
        keys[key] = ApiKey(
            key, Tenant(said.name or f"key-{number}", said.weight), Rates(said.rpm, said.tpm)
        )
    names = [each.tenant.name for each in keys.values()]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two keys are called {name!r}")
    return list(keys.values())


def _read(settings: Iterable[str], number: int) -> KeySettings:
    """What is said of a key, the `number`-th; errors do not show it."""
    said = dict(setting.split("=", 1) for setting in settings)
    try:
        return KeySettings.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        known = ", ".join(f"{each}=" for each in KeySettings.model_fields)
        raise ValueError(
            f"key {number}: {name}={said[name]}: {first['msg']}; a key may be followed by {known}"
        ) from None
