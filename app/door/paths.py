"""Requests as clients write them: with or without /v1, with a trailing slash, with HEAD for GET."""

from collections.abc import Iterable
from typing import Any

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_VERSION = "/v1"


class Paths:
    """Leads requests to the endpoints that they mean (ASGI).

    It stands before all that decides by a request's path or method.

    Args:
        app: what serves them.
        routes: of the endpoints.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        meant: dict[str, Any] = {**scope, "path": self._path(scope)}
        if scope["method"] != "HEAD":
            await self._app(meant, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**meant, "method": "GET"}, receive, send_without_body)

    def _path(self, scope: Scope) -> str:
        """The path of an endpoint; what is nobody's stays as it is."""
        path: str = scope["path"].rstrip("/") or "/"
        for candidate in (path, _VERSION + path, path.removeprefix(_VERSION) or "/"):
            probe = {**scope, "path": candidate, "path_params": {}}
            if any(route.matches(probe)[0] is not Match.NONE for route in self._routes):
                return candidate
        return str(scope["path"])
