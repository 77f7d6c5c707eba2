"""Responses that are sent piece by piece while they come to be."""

from collections.abc import AsyncIterator, Callable, Mapping

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class Stream(StreamingResponse):
    """Sends pieces as they come.

    Args:
        pieces: what is sent.
        on_end: called however the response ends, even if it never began.
        headers: further ones.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        on_end: Callable[[], None],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(pieces, headers=headers)
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the response (ASGI)."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()
