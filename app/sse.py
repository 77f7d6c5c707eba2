"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from collections.abc import AsyncIterator, Callable

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

_LINE_END = "\n"  # like OpenAI's; clients that cut at LF LF are many


def frame(data: str, event: str | None = None) -> bytes:
    """One event."""
    return ServerSentEvent(data, event=event, sep=_LINE_END).encode()


class EventStream(EventSourceResponse):
    """Streams frames, with a comment now and then that keeps the connection open.

    Args:
        frames: from `frame`.
        on_end: called however the response ends, even if it never began.
    """

    def __init__(self, frames: AsyncIterator[bytes], on_end: Callable[[], None]) -> None:
        super().__init__(frames, sep=_LINE_END)
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the response (ASGI)."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()
