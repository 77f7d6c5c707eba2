"""Workers: other processes or machines whose memory and processor llama.cpp uses over RPC.

ggml's client aborts the process where a worker cannot be reached or goes away. So workers are
greeted before ggml meets them, and their connections are watched. Source: ggml-rpc.cpp.
"""

import ctypes
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from medusa.errors import MedusaError, WorkerUnavailableError
from medusa.llama import ggml, runtime
from medusa.llama.devices import RPC, Device

log = logging.getLogger("medusa.llama")

_PROTOCOL = (7, 0)  # RPC_PROTO_MAJOR_VERSION, the newest RPC_PROTO_MINOR_VERSION we know
_HELLO, _CAPABILITIES = 14, bytes(24)  # RPC_CMD_HELLO; RPC_CONN_CAPS_SIZE: TCP and nothing else
_ANSWER = struct.Struct("<Q4B24x")  # size, version, padding; capabilities
_PATIENCE = 5.0  # seconds for a worker to answer
_WATCH_SECONDS = 1.0
_SILENCE = (
    ("TCP_KEEPIDLE", 10),
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 4),
    ("TCP_USER_TIMEOUT", 30_000),
)
"""A machine that says nothing for 30 s is gone, whether something was sent to it or not."""

_known: dict[str, tuple[str, int]] = {}
"""Addresses of the workers that llama.cpp knows, by their endpoints."""


def connect(endpoints: Sequence[str]) -> None:
    """Make the devices of workers known to llama.cpp, which knows them until the process ends.

    Args:
        endpoints: host:port of each.

    Raises:
        WorkerUnavailableError: one does not answer.
        MedusaError: this llama.cpp was built without RPC.
    """
    if not endpoints:
        return
    backend = _backend("--rpc")
    in_use = {endpoint for endpoint, _ in _connections()}
    for endpoint in endpoints:
        if endpoint in in_use:  # by a model; a worker serves one connection at a time
            continue
        _greet(endpoint)
        if endpoint in _known:
            continue
        _add(backend, endpoint)
        if not _known:
            threading.Thread(target=_watch, name="rpc-watch", daemon=True).start()
        host, port = _address(endpoint)
        _known[endpoint] = (socket.gethostbyname(host), port)


def serve(
    endpoint: str, devices: Sequence[Device], n_threads: int, cache: Path | None = None
) -> None:
    """Be a worker, until the process is ended.

    Args:
        endpoint: address:port to listen on, IPv4.
        devices: what is served.
        n_threads: of a device that is the processor.
        cache: folder that keeps large weights, so that they need not be sent again.

    Raises:
        MedusaError: this llama.cpp was built without RPC, or the address cannot be had.
    """
    start = ctypes.CFUNCTYPE(
        None,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_void_p),
    )(_function(_backend("worker"), "start_server"))
    handles = (ctypes.c_void_p * len(devices))(*(each.handle for each in devices))
    folder = None if cache is None else os.fsencode(cache)
    start(endpoint.encode(), folder, n_threads, len(devices), handles)
    raise MedusaError(f"cannot serve on {endpoint}")


def _backend(what: str) -> int:
    """Its backend of ggml, for what a user asked for."""
    runtime.load()
    try:
        backend: int | None = ggml.registry().backend_reg_by_name(RPC.encode())
    except ggml.GgmlUnavailableError as error:
        raise MedusaError(f"{what} does not work here: {error}") from None
    if backend is None:
        raise MedusaError(
            f"{what} needs a llama.cpp built with RPC, as `make` builds it; "
            'otherwise: CMAKE_ARGS="-DGGML_RPC=ON" pip install --force-reinstall --no-cache-dir '
            "--no-deps llama-cpp-python, with the version that is installed"
        )
    return backend


def _function(backend: int, name: str) -> int:
    address: int | None = ggml.registry().backend_reg_get_proc_address(
        backend, f"ggml_backend_rpc_{name}".encode()
    )
    if address is None:
        raise MedusaError(f"this ggml's RPC backend has no {name}")
    return address


def _add(backend: int, endpoint: str) -> None:
    add = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(_function(backend, "add_server"))
    server = add(endpoint.encode())
    if server is None:
        raise WorkerUnavailableError(f"the worker at {endpoint} has no devices")
    ggml.registry().backend_register(server)


def _greet(endpoint: str) -> None:
    """Say hello and goodbye.

    Raises:
        WorkerUnavailableError: the worker cannot be used.
    """
    who = f"the worker at {endpoint}"
    try:
        with socket.create_connection(_address(endpoint), timeout=_PATIENCE) as connection:
            head = struct.pack("<BQ", _HELLO, len(_CAPABILITIES))
            connection.sendall(head + _CAPABILITIES)
            with connection.makefile("rb") as file:
                answer = file.read(_ANSWER.size)
    except TimeoutError:
        raise WorkerUnavailableError(
            f"{who} does not answer; does it serve another server, or is it none?"
        ) from None
    except OSError as error:
        raise WorkerUnavailableError(f"{who} cannot be reached: {error.strerror}") from None
    if len(answer) != _ANSWER.size:
        raise WorkerUnavailableError(f"{who} hangs up; is it one, and of this version?")
    _, *version, _ = _ANSWER.unpack(answer)
    if version[0] != _PROTOCOL[0] or version[1] > _PROTOCOL[1]:
        found, ours = (".".join(map(str, each)) for each in (version, _PROTOCOL))
        raise WorkerUnavailableError(f"{who} speaks version {found} of the protocol, not {ours}")


def _address(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    return host, int(port)


def _connections() -> Iterator[tuple[str, socket.socket]]:
    """The endpoints to which ggml has a connection, which it keeps to itself; a duplicate each."""
    endpoints = {address: endpoint for endpoint, address in list(_known.items())}
    for name in os.listdir("/dev/fd"):
        # It was closed in between, is no socket or not connected.
        with suppress(OSError), _duplicate(int(name)) as connection:
            endpoint = endpoints.get(connection.getpeername()[:2])
            if endpoint is not None:
                yield endpoint, connection


def _duplicate(descriptor: int) -> socket.socket:
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _watch() -> None:
    """End the process when a worker has gone, as ggml would only in its next computation."""
    while True:
        with suppress(OSError):  # no descriptor is left to list them with
            for endpoint, connection in _connections():
                _expect_signs_of_life(connection)
                if _is_over(connection):
                    log.error("the worker at %s has gone, and its part of the model", endpoint)
                    os.abort()
        time.sleep(_WATCH_SECONDS)


def _expect_signs_of_life(connection: socket.socket) -> None:
    with suppress(OSError):  # it is over
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _SILENCE:
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _is_over(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
