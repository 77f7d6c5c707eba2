"""How much one request may hold: each limit once."""

import sys
from dataclasses import dataclass, fields

from medusa.errors import InvalidRequestError

PARSER_NESTING = 200
"""Levels that pydantic's JSON parser can read."""

TEMPLATED = 4_000_000
"""Characters that a chat template can make; see medusa.text.renderer."""


class LimitError(InvalidRequestError):
    """A request holds more than a limit allows."""


@dataclass(frozen=True)
class RequestLimits:
    """How much one request may hold; `app.settings.limits` says what each limit means.

    Each is named like its option.
    """

    max_values: int = 2**18
    max_nesting: int = PARSER_NESTING
    max_logprobs: int = 2**18
    max_top_logprobs: int = 256
    max_choices: int = 64
    max_inputs: int = 2048
    max_text: int = 1_000_000
    max_grammar: int = 100_000
    max_tools: int = 128
    max_stops: int = 256
    max_bad_words: int = 1000
    max_breakers: int = 64
    max_phrase: int = 1000
    max_biases: int = 10_000

    def excess(self, limit: str, value: object) -> str | None:
        """Why a value is more than a limit allows, in words for who sent it; None if it is not.

        Args:
            limit: the field's name.
            value: a number, or what has a length; others are not too much.
        """
        most: int = getattr(self, limit)
        match value:
            case int():
                sent, what = value, "is too large"
            case str():
                sent, what = len(value), "characters are too many"
            case list() | dict():
                sent, what = len(value), "are too many"
            case _:
                return None
        if sent <= most:
            return None
        return f"{sent:,} {what}; at most {most:,} ({option_of(limit)})"

    def check(self, limit: str, value: object, field: str) -> None:
        """Refuse a value that is more than a limit allows.

        Raises:
            LimitError: it is.
        """
        why = self.excess(limit, value)
        if why is not None:
            raise LimitError(why, field=field)


NAMES = frozenset(field.name for field in fields(RequestLimits))
"""All limits."""

UNLIMITED = RequestLimits(**dict.fromkeys(NAMES, sys.maxsize))
"""For what no client has sent."""


def option_of(limit: str) -> str:
    """The option of `serve` that raises a limit."""
    return f"--{limit.replace('_', '-')}"
