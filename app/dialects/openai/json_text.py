"""JSON that is sent as the text of a field, inside of a body's own."""

from typing import Any

from pydantic_core import from_json

MAX_CHARACTERS = 1_000_000
"""Longest text; a body's limit on values does not see what is in one."""


def parse(text: str) -> Any:
    """The value, nested at most 200 levels deep, as bodies are.

    Raises:
        ValueError: the text is no JSON, or too long.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"is longer than {MAX_CHARACTERS:,} characters")
    try:
        return from_json(text)
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
