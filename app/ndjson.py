"""JSON lines that are sent as they come (https://github.com/ndjson/ndjson-spec)."""

from collections.abc import AsyncIterator, Callable

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class LineStream(StreamingResponse):
    """Streams lines.

    Args:
        lines: each with its end.
        on_end: called however the response ends, even if it never began.
    """

    def __init__(self, lines: AsyncIterator[bytes], on_end: Callable[[], None]) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the response (ASGI)."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()
