"""Connections: how many there may be, and how long a client may take over each of them."""

import asyncio
import contextlib
import http
import ipaddress
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.dialects.by_path import dialect_of
from app.dialects.dialect import RETRY
from app.door.config import DoorConfig
from app.door.refusals import RefusedError
from app.last_words import LastWords

BEING_REFUSED = 64
"""Connections beyond the limit that are still told so; further ones are cut."""

_CLOSE = {"Connection": "close"}
_LEAST_TAKEN = 16 * 1024  # bytes


class Crowd:
    """Counts the open connections of a server, in all and of each client.

    Args:
        config: has the limits.
    """

    def __init__(self, config: DoorConfig) -> None:
        self._config = config
        self._of: Counter[str] = Counter()

    @property
    def is_overrun(self) -> bool:
        """Whether there is no room even for refusals."""
        return self._of.total() >= self._config.max_connections + BEING_REFUSED

    def enter(self, client: str) -> RefusedError | None:
        """Count a connection; returns what it must be told instead of an answer, if anything."""
        config = self._config
        refused = None
        if self._of.total() >= config.max_connections:
            refused = RefusedError(
                503,
                f"the server has {config.max_connections} connections, which is its most "
                "(--max-connections); try again later",
                "too_many_connections",
                RETRY | _CLOSE,
            )
        elif self._of[client] >= config.max_connections_per_client:
            refused = RefusedError(
                429,
                f"you have {config.max_connections_per_client} connections, which is the most "
                "for one address (--max-connections-per-client); close some",
                "too_many_connections",
                RETRY | _CLOSE,
            )
        self._of[client] += 1
        return refused

    def leave(self, client: str) -> None:
        """Count a connection no more."""
        self._of[client] -= 1
        if not self._of[client]:
            del self._of[client]


def client_of(address: Sequence[Any] | None) -> str:
    """Who is at an address: one IPv4 address, one /64 of IPv6, which is what a subscriber gets."""
    if address is None:
        return ""
    ip = ipaddress.ip_address(address[0].partition("%")[0])
    if ip.version == 4:
        return str(ip)
    return str(ipaddress.ip_network((ip, 64), strict=False))


class SendClock:
    """Cuts a connection off whose client does not take what waits for it.

    Args:
        transport: the connection's.
        seconds: in which it must take 16 KB, or all that waits.
    """

    def __init__(self, transport: asyncio.Transport, seconds: float) -> None:
        self._transport = transport
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Something waits now; while it does, it only gets less."""
        left, loop = self._transport.get_write_buffer_size(), asyncio.get_running_loop()
        self._timer = loop.call_later(self._seconds, self._check, left)

    def stop(self) -> None:
        """Nothing waits any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self, before: int) -> None:
        if before - self._transport.get_write_buffer_size() < _LEAST_TAKEN:
            self._transport.abort()
        else:
            self.start()


class Connection(H11Protocol):
    """One connection: uvicorn's, with limits on number and time.

    Whatever is in the transport's buffer is what the client has not taken; the buffer counts as
    full as soon as there is anything, so that no answer is made ahead of a client that does not
    read.
    """

    door: ClassVar[DoorConfig]
    crowd: ClassVar[Crowd]
    wills: ClassVar[socket.socket | None]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=1)  # with 0, TLS never goes on
        self._awaited: str | None = None  # what the client owes us now
        self._reading: asyncio.TimerHandle | None = None
        self._sending = SendClock(transport, self.door.send_timeout)
        self._client = client_of(self.client)
        if self.wills is not None and self.scheme == "http":  # nobody else can speak our TLS
            connection = transport.get_extra_info("socket").fileno()
            self.app_state = {**self.app_state, "last_words": LastWords(self.wills, connection)}
        if self.crowd.is_overrun:
            transport.abort()
        refused = self.crowd.enter(self._client)
        if refused is not None:
            self.app = _refusal(refused)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.crowd.leave(self._client)
        self._sending.stop()
        if self._reading is not None:
            self._reading.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Called when an answer has been handed over in full."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Called when something waits to be sent."""
        super().pause_writing()
        self._sending.start()

    def resume_writing(self) -> None:
        """Called when nothing waits to be sent any more."""
        super().resume_writing()
        self._sending.stop()

    def send_400_response(self, msg: str) -> None:
        """Called when what came is no HTTP."""
        self._refuse(RefusedError(400, msg.removesuffix("."), "no_http", _CLOSE))

    def _watch(self) -> None:
        """Start the clock for what the client owes us, where that has changed."""
        awaited, seconds = None, 0.0
        if self.conn.their_state is h11.SEND_BODY:
            awaited, seconds = "body", self.door.body_timeout
        elif self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None:
            awaited, seconds = "headers", self.door.header_timeout
        if awaited == self._awaited:
            return
        self._awaited = awaited
        if self._reading is not None:
            self._reading.cancel()
        if awaited is not None:
            self._reading = self.loop.call_later(seconds, self._too_slow, awaited, seconds)

    def _too_slow(self, awaited: str, seconds: float) -> None:
        if awaited == "headers" and not self.conn.trailing_data[0]:
            self.transport.close()  # there is no request to answer
            return
        message = f"the request's {awaited} took longer than {seconds:g} s to arrive"
        self._refuse(RefusedError(408, message, "request_timeout", _CLOSE))

    def _refuse(self, error: RefusedError) -> None:
        """Answer by ourselves, where no answer has begun, and close."""
        path = "" if self.cycle is None else self.cycle.scope["path"]
        response, status = dialect_of(path).error(error).response(), error.status_code
        reason = http.HTTPStatus(status).phrase.encode()
        with contextlib.suppress(h11.LocalProtocolError):  # an answer has begun; HEAD has no body
            for event in (
                h11.Response(status_code=status, headers=response.raw_headers, reason=reason),
                h11.Data(data=bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None:
            self.cycle.disconnected = True  # nobody hears what the application still says
            self.cycle.message_event.set()
        self.transport.close()


def _refusal(error: RefusedError) -> ASGIApp:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await dialect_of(scope["path"]).error(error).response()(scope, receive, send)

    return refuse


def connection_type(config: DoorConfig, wills: socket.socket | None = None) -> type[Connection]:
    """The protocol of one server, which counts its connections together.

    Args:
        config: has the limits.
        wills: where last words to clients go, if a supervisor keeps them.
    """
    values = {"door": config, "crowd": Crowd(config), "wills": wills}
    return type("LimitedConnection", (Connection,), values)
