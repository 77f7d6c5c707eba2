"""The life of a server's process: it listens, loads, answers, drains and ends."""

import asyncio
import faulthandler
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn

from app.hosts import ModelHosts
from app.supervisor import Supervised

FLUSH_SECONDS = 5
"""For clients to read what was still sent to them, once everything has ended."""

_POLL_SECONDS = 0.05


class _Server(uvicorn.Server):
    """Uvicorn's server without its signal handlers, which end it before anything has drained."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    config: uvicorn.Config,
    hosts: ModelHosts,
    listening: socket.socket,
    *,
    grace: float,
    supervised: Supervised | None,
    announce: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT, and then for as long as running requests take, up to `grace`.

    What is unfinished then gets an error. A second signal ends the process at once, as does the
    first one while the first model is loading.

    Args:
        config: with the application, which loads the models.
        hosts: its models.
        listening: where clients connect.
        grace: in seconds.
        supervised: by whom, if anybody.
        announce: called when the first model is ready.

    Raises:
        Exception: what kept the first model from being loaded.
    """
    faulthandler.enable(all_threads=False)  # says where native code ended the process, ...
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # ... while ggml would start a debugger
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set() or not hosts.are_ready:
            leave()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    if supervised is not None:
        supervised.when_orphaned(leave)

    server = _Server(config)
    serving = asyncio.create_task(server.serve([listening]))
    try:
        await hosts.ready()
        announce()
        if supervised is not None:
            supervised.tell_ready()
        await stopping.wait()
        await hosts.drain(grace)
        await _flush(server)
        if hosts.is_loading:
            leave()  # rather than wait for what nobody will use
    finally:
        server.should_exit = True
        await serving


async def _flush(server: uvicorn.Server) -> None:
    """Wait for answers to be read, and give up on clients that do not."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FLUSH_SECONDS):
            while server.server_state.tasks:
                await asyncio.sleep(_POLL_SECONDS)
    if server.server_state.tasks:
        for connection in server.server_state.connections:
            connection.transport.abort()


def leave() -> None:
    """End the process, whatever runs in it. Models need no closing; files are whole."""
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)
