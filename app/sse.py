"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from pydantic_core import to_json
from starlette.types import Send

from app.streaming import Stream

_HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "keep-alive",
    "X-Accel-Buffering": "no",  # nginx would gather events
}
_PING_SECONDS = 15
_PING = b": ping\n\n"


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


class EventStream(Stream):
    """Streams frames, with a comment now and then that keeps the connection open.

    Args:
        frames: from `frame`.
        on_end: called however the response ends, even if it never began.
    """

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncIterator[bytes], on_end: Callable[[], None]) -> None:
        super().__init__(frames, on_end, _HEADERS)

    async def stream_response(self, send: Send) -> None:
        """Send the whole response (see Starlette's)."""
        pinging = asyncio.create_task(_ping(send))
        try:
            await super().stream_response(send)
        finally:
            pinging.cancel()


async def _ping(send: Send) -> None:
    while True:
        await asyncio.sleep(_PING_SECONDS)
        await send({"type": "http.response.body", "body": _PING, "more_body": True})
