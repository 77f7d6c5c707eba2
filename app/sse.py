"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from pydantic_core import to_json
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send


def frame(data: bytes, event: str | None = None) -> bytes:
    """One event. Lines end in LF, like OpenAI's; clients that cut at LF LF are many.

    Args:
        data: a single line.
        event: its type.
    """
    kind = b"" if event is None else b"event: %b\n" % event.encode()
    return b"%bdata: %b\n\n" % (kind, data)


def json_frame(data: Any, event: str | None = None) -> bytes:
    """One event whose data is JSON; numbers that are none become null."""
    return frame(to_json(data, inf_nan_mode="null"), event)


class EventStream(EventSourceResponse):
    """Streams frames, with a comment now and then that keeps the connection open.

    Args:
        frames: from `frame`.
        on_end: called however the response ends, even if it never began.
    """

    def __init__(self, frames: AsyncIterator[bytes], on_end: Callable[[], None]) -> None:
        super().__init__(frames, sep="\n")
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the response (ASGI)."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()
