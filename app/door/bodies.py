"""JSON bodies: bounded before they are parsed, large ones parsed beside the event loop."""

import email.message
from typing import Any, TypeVar

import anyio
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from app.door.refusals import RefusedError

Model = TypeVar("Model", bound=BaseModel)

_LARGE = 64 * 1024  # bytes from which on parsing is worth a thread
_BOM = b"\xef\xbb\xbf"
_TOO_DEEP = "recursion limit exceeded"  # in pydantic's words
_WEIGHT = 8  # values for which a list, an object or a named member counts, being so much dearer
_BROWSERS = {"origin", "sec-fetch-site"}  # headers that pages cannot leave out
_QUOTES_A_VALUE = 4  # around its name and itself


class BodyReader:
    """Reads the bodies of one server's requests.

    Args:
        max_values: most values in one body, see `check_values`. Bytes alone bound no costs: 8 MB
            hold millions of lists, gigabytes once they are objects.
        context: of the validation.
    """

    def __init__(self, max_values: int, context: Any = None) -> None:
        self._context = context
        self._max_values = max_values
        self._one_at_a_time = anyio.CapacityLimiter(1)  # parsing holds the interpreter's lock

    async def read(self, request: Request, model: type[Model]) -> Model:
        """The body, checked.

        Raises:
            RefusedError: it is no JSON, or has too many values.
            RequestValidationError: it is not what the endpoint takes.
        """
        _check_content_type(request)
        body = (await request.body()).removeprefix(_BOM)
        if not body:
            raise RefusedError(400, "the body is empty; send a JSON object", "no_body")
        if len(body) < _LARGE:
            return self._parse(body, model)
        return await anyio.to_thread.run_sync(self._parse, body, model, limiter=self._one_at_a_time)

    def _parse(self, body: bytes, model: type[Model]) -> Model:
        check_values(body, self._max_values)
        try:
            return model.model_validate_json(body, strict=True, context=self._context)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
            if _TOO_DEEP in errors[0]["msg"]:
                raise RefusedError(
                    400, "the body is nested too deeply; at most 200 levels are read", "too_deep"
                ) from None
            raise RequestValidationError(
                [{**each, "loc": ("body", *each["loc"])} for each in errors], body=_values(body)
            ) from None


def _values(body: bytes) -> Any:
    """What was sent, to tell its names from those of our types; None if it is no JSON."""
    try:
        return from_json(body)
    except ValueError:
        return None


class ReadRequest(Request):
    """A request whose body was read already; FastAPI takes the result for the parsed JSON.

    Args:
        request: where it came from.
        content: what the endpoint is to get.
    """

    def __init__(self, request: Request, content: BaseModel) -> None:
        kept = [item for item in request.scope["headers"] if item[0] != b"content-type"]
        headers = [*kept, (b"content-type", b"application/json")]
        super().__init__({**request.scope, "headers": headers}, request.receive)
        self._content = content

    async def body(self) -> bytes:
        """Anything but nothing, or the JSON would not be asked for."""
        return b"read"

    async def json(self) -> Any:
        """What was read."""
        return self._content


def check_values(body: bytes, most: int) -> None:
    """Refuse JSON of more than so many values, at the cost of a glance at most bodies.

    Numbers and texts in lists count once, lists, objects and named members eight times.

    Raises:
        RefusedError: there are more.
    """
    if len(body) * _WEIGHT <= most or _marks(body) <= most:
        return
    begin = values = quotes = 0
    in_string = False
    while begin <= len(body):
        end = body.find(b'"', begin)
        run = body[begin : end if end >= 0 else len(body)]
        if in_string:
            in_string = (len(run) - len(run.rstrip(b"\\"))) % 2 == 1  # the quote is escaped
        else:
            values += _marks(run)
            in_string = True
        quotes += 1
        if values > most or quotes > _QUOTES_A_VALUE * (most + 1):
            raise RefusedError(
                400,
                f"the body has too many values; at most {most:,} are read (--max-values)",
                "too_many_values",
            )
        begin += len(run) + 1


def _marks(json: bytes) -> int:
    """How many values there are, of JSON without strings; else no fewer than that."""
    return json.count(b",") + _WEIGHT * sum(json.count(mark) for mark in (b"[", b"{", b":"))


def _check_content_type(request: Request) -> None:
    """Let browsers' pages send nothing but what says that it is JSON.

    Other types, and none, are what a page of another origin may send without being asked (CSRF);
    browsers say where a request comes from. From elsewhere they are curl without a header.
    """
    message = email.message.Message()
    message["content-type"] = request.headers.get("content-type", "")
    kind = message.get_content_type()
    is_json = kind == "application/json" or kind.endswith("+json")
    if is_json or not any(name in request.headers for name in _BROWSERS):
        return
    raise RefusedError(
        415, "send the body with the header `Content-Type: application/json`", "not_json"
    )
