"""What is asked of every request before its endpoint: whose name it calls, its key, its size."""

import ipaddress
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth import Guard
from app.dialects.by_path import dialect_of
from app.dialects.openai.errors import OPENAI
from app.door.config import DoorConfig
from app.door.refusals import RefusedError, in_units

_DOCS = ("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json")
_RESERVED = (".localhost", ".internal")  # RFC 6761 and ICANN: nobody can register such a name


class Gate:
    """Refuses requests before anything is done for them (ASGI).

    The dialects' endpoints ask for the key themselves, since each dialect's clients put it
    elsewhere; what is nobody's dialect, the gate guards.

    Args:
        app: what serves the rest.
        config: the limits.
        guard: knows the key.
    """

    def __init__(self, app: ASGIApp, config: DoorConfig, guard: Guard) -> None:
        self._app = app
        self._config = config
        self._guard = guard
        self._locked: set[str] = set() if config.open_docs else set(_DOCS)
        if not config.open_metrics:
            self._locked.add("/metrics")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            if self._config.hosts is not None:
                check_host(headers.get("host"), self._config.hosts)
            if scope["path"] in self._locked:
                self._guard.check(OPENAI.key(headers))
        except Exception as error:
            await dialect_of(scope["path"]).error(error).response()(scope, receive, send)
            return
        await self._app(scope, bounded(receive, headers, self._config.max_body), send)


def check_host(header: str | None, allowed: Collection[str]) -> None:
    """Refuse names that a page could have made to lead here (DNS rebinding).

    An address is no name, and a browser always says one or the other.

    Args:
        header: Host, if there was one.
        allowed: further names, without ports.

    Raises:
        RefusedError: the name may be somebody else's.
    """
    if header is None:
        return
    name = host_name(header)
    if name == "localhost" or name.endswith(_RESERVED) or name in allowed or _is_address(name):
        return
    raise RefusedError(
        403,
        f"this server does not go by the name {name!r}; if it should, start it with "
        f"--allowed-hosts {name}",
        "host_not_allowed",
    )


def host_name(header: str) -> str:
    """The name or address in a Host header, without port and brackets."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def bounded(receive: Receive, headers: Headers, max_body: int) -> Receive:
    """The same without bodies that are too large; they are refused when they are asked for."""
    announced = headers.get("content-length", "")
    total = 0

    async def receive_bounded() -> Message:
        nonlocal total
        if announced.isdecimal() and int(announced[:20]) > max_body:
            raise _too_large(max_body)
        message = await receive()
        total += len(message.get("body", b""))
        if total > max_body:
            raise _too_large(max_body)
        return message

    return receive_bounded


def _too_large(max_body: int) -> RefusedError:
    return RefusedError(
        413,
        f"the body is too large; at most {in_units(max_body)} are read (--max-body)",
        "body_too_large",
    )
