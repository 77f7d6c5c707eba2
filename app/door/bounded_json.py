"""JSON that is bounded before it is parsed: a body, or a text in one."""

from typing import Any

from pydantic_core import from_json

from app.door.limits import PARSER_NESTING, RequestLimits, option_of
from app.door.refusals import RefusedError

TOO_DEEP = "recursion limit exceeded"
"""What pydantic's parser says."""

_WEIGHT = 8  # values for which a list, an object or a named member counts, being so much dearer
_QUOTES_A_VALUE = 4  # around its name and itself
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def read_json(text: str, limits: RequestLimits, *, partial: bool = False) -> Any:
    """JSON that stands as a text in a body, under the limits that bodies have.

    Args:
        text: the JSON.
        limits: on its length, values and nesting.
        partial: whether it may be cut off.

    Raises:
        ValueError: it is none, or exceeds a limit.
    """
    why = limits.excess("max_text", text)
    if why is not None:
        raise ValueError(why)
    try:
        check_shape(text.encode("utf-8", "surrogatepass"), limits)
        return from_json(text, allow_partial="trailing-strings" if partial else False)
    except RefusedError as error:
        raise ValueError(error.detail) from None
    except ValueError as error:
        if TOO_DEEP in str(error):
            raise ValueError(too_deep(PARSER_NESTING).detail) from None
        raise ValueError(f"is not JSON: {error}") from None


def check_shape(json: bytes, limits: RequestLimits) -> None:
    """Refuse JSON of too many values or levels, at the cost of a glance at most bodies.

    Numbers and texts in lists count once, lists, objects and named members eight times. Levels
    are left to the parser where it allows no more than the limit.

    Raises:
        RefusedError: there are more.
    """
    most, levels = limits.max_values, limits.max_nesting
    is_small = len(json) * _WEIGHT <= most or _marks(json) <= most
    is_flat = levels >= PARSER_NESTING or json.count(b"[") + json.count(b"{") <= levels
    if is_small and is_flat:
        return
    begin = values = quotes = depth = 0
    in_string = False
    while begin <= len(json) and depth >= 0:  # what closes more than it opens is no JSON
        end = json.find(b'"', begin)
        run = json[begin : end if end >= 0 else len(json)]
        if in_string:
            in_string = (len(run) - len(run.rstrip(b"\\"))) % 2 == 1  # the quote is escaped
        else:
            values += _marks(run)
            depth = _depth(run, depth, levels)
            in_string = True
        quotes += 1
        if values > most or quotes > _QUOTES_A_VALUE * (most + 1):
            raise RefusedError(
                400,
                f"the JSON has too many values; at most {most:,} are read "
                f"({option_of('max_values')})",
                "too_many_values",
            )
        begin += len(run) + 1


def _depth(run: bytes, depth: int, most: int) -> int:
    """The level on which a piece of JSON without strings ends that begins on another.

    Raises:
        RefusedError: there is a deeper one in it than may be.
    """
    for mark in run.translate(None, _NO_BRACKETS):
        depth += 1 if mark in b"[{" else -1
        if depth > most:
            raise too_deep(most)
        if depth < 0:
            break
    return depth


def too_deep(most: int) -> RefusedError:
    """The error of JSON with more levels than so many."""
    return RefusedError(
        400,
        f"the JSON is nested too deeply; at most {most} levels are read "
        f"({option_of('max_nesting')})",
        "too_deep",
    )


def _marks(json: bytes) -> int:
    """How many values there are, of JSON without strings; else no fewer than that."""
    return json.count(b",") + _WEIGHT * sum(json.count(mark) for mark in (b"[", b"{", b":"))
