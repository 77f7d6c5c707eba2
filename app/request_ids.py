"""A name for each HTTP request: the client's or one of ours, in its answer and in the log."""

import re
import uuid
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-request-id"

_USABLE = re.compile(r"[\x21-\x7e]{1,128}")  # one word in a line of a log, and a short one

_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def current_request_id() -> str | None:
    """The id of the request that this code runs for; None outside of requests."""
    return _current.get()


class RequestIds:
    """Takes each request's id from its header, or makes one, and sends it back (ASGI).

    An id that is longer than 128 characters, or not visible ASCII, is replaced by one of ours.

    Args:
        app: what serves the request; `current_request_id` knows the id in there.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request under its id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _USABLE.fullmatch(given) else uuid.uuid4().hex

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        token = _current.set(request_id)
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            _current.reset(token)
