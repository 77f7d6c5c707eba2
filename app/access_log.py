"""A line in the log for each HTTP request: what was asked, how it went, how long it took."""

import logging
import time
from contextvars import ContextVar
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("app.access")


@dataclass
class _Noted:
    """What is known of a request so far."""

    prompt: int = 0
    completion: int = 0
    key: str = ""  # the name of its key


_noted: ContextVar[_Noted | None] = ContextVar("noted", default=None)


def count_tokens(*, prompt: int = 0, completion: int = 0) -> None:
    """Add to what the line about the request says that this code runs for."""
    noted = _noted.get()
    if noted is not None:
        noted.prompt += prompt
        noted.completion += completion


def note_key(name: str) -> None:
    """Tell in that line whose key the request came with."""
    noted = _noted.get()
    if noted is not None:
        noted.key = name


class AccessLog:
    """Logs each request when its answer has ended, at level INFO of `app.access` (ASGI).

    Args:
        app: what serves the request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and log it."""
        if scope["type"] != "http" or not log.isEnabledFor(logging.INFO):
            await self._app(scope, receive, send)
            return
        status = 500  # of what ends without an answer

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began, noted = time.perf_counter(), _Noted()
        token = _noted.set(noted)
        try:
            await self._app(scope, receive, send_noting)
        finally:
            _noted.reset(token)
            method, path = scope["method"], scope["path"]
            fields = {
                "method": method,
                "path": path,
                "status": status,
                "duration": round(time.perf_counter() - began, 6),
                "prompt_tokens": noted.prompt,
                "completion_tokens": noted.completion,
            }
            if noted.key:
                fields["key"] = noted.key
            log.info("%s %s %d", method, path, status, extra={"fields": fields})
