"""JSON bodies: bounded before they are parsed, large ones parsed beside the event loop."""

import email.message
from typing import Any, TypeVar

import anyio
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from app.door.bounded_json import TOO_DEEP, check_shape, too_deep
from app.door.limits import PARSER_NESTING, RequestLimits
from app.door.refusals import RefusedError

Model = TypeVar("Model", bound=BaseModel)

_LARGE = 64 * 1024  # bytes from which on parsing is worth a thread
_BOM = b"\xef\xbb\xbf"
_BROWSERS = {"origin", "sec-fetch-site"}  # headers that pages cannot leave out


class BodyReader:
    """Reads the bodies of one server's requests.

    Args:
        limits: on values and nesting, see `check_shape`. Bytes alone bound no costs: 8 MB hold
            millions of lists, gigabytes once they are objects.
        context: of the validation.
    """

    def __init__(self, limits: RequestLimits, context: Any = None) -> None:
        self._context = context
        self._limits = limits
        self._one_at_a_time = anyio.CapacityLimiter(1)  # parsing holds the interpreter's lock

    async def read(self, request: Request, model: type[Model]) -> Model:
        """The body, checked.

        Raises:
            RefusedError: it is no JSON, or has too many values or levels.
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
        check_shape(body, self._limits)
        try:
            return model.model_validate_json(body, strict=True, context=self._context)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
            if TOO_DEEP in errors[0]["msg"]:
                raise too_deep(PARSER_NESTING) from None
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
