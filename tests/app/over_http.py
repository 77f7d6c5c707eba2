"""The application behind a real socket in this process, on backends that are no models."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from app.backend import Backend
from app.door.config import DoorConfig
from app.door.connections import Connection
from app.door.keys import ApiKey
from app.door.listening import server_config
from app.door.tls import tls_context
from app.hosts import ModelHosts
from app.server import create_app
from tests.app.in_process import _same, host_of


@dataclass(frozen=True)
class Listening:
    """A server that runs. Its clients are closed with it."""

    address: tuple[str, int]
    connections: type[Connection]
    clients: ExitStack
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address[0]}:{self.address[1]}"

    @property
    def n_connections(self) -> int:
        return self.connections.crowd._of.total()

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        client = self.clients.enter_context(socket.socket())
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(600)
        client.connect(self.address)
        return client


def post(path: str, body: Any, *headers: str) -> bytes:
    """A request as it is sent."""
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "Content-Type: application/json", *headers, "", ""]).encode() + (
        content
    )


def get(path: str, *headers: str) -> bytes:
    """A request as it is sent."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def read_all(client: socket.socket) -> bytes:
    """What comes until the server closes."""
    parts = []
    while part := client.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def error_in(answer: bytes) -> dict[str, Any]:
    """The error of a whole response."""
    error: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    return error


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.005)


@contextmanager
def listening(
    backend: Backend,
    door: DoorConfig | None = None,
    *,
    api_key: str | None = None,
    certificate: Path | None = None,
) -> Iterator[Listening]:
    """Serve a backend until the block ends; the model is loaded when it begins."""
    door = door or DoorConfig()
    host = host_of(backend.info.name, partial(_same, backend))
    keys = [] if api_key is None else [ApiKey(api_key)]
    hosts = ModelHosts([host])
    app = create_app(hosts, api_keys=keys, door=door)
    config = server_config(app, door, grace=1, certificate=tls_context(certificate))
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()

    def serve() -> None:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve([listener]))

    thread = threading.Thread(target=serve)
    thread.start()
    clients = ExitStack()
    try:
        wait_until(lambda: server.started and hosts.are_ready)
        connections = config.http_protocol_class
        assert issubclass(connections, Connection)
        yield Listening(address, connections, clients, "http" if certificate is None else "https")
    finally:
        clients.close()
        server.should_exit = True
        thread.join()
