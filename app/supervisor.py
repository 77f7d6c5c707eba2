"""A process that starts the server again when a fault in native code has ended it.

llama.cpp aborts where it finds something impossible, and so does the system where memory is out:
neither can be caught inside the process. The supervisor owns the listening socket, so that the
port stays taken and nobody is refused in between; it loads nothing that could crash.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from app.last_words import Keeper
from app.stand_in import unavailable

MAX_FAILED_STARTS = 5
"""Crashes in a row, without ever being ready, after which the supervisor gives up."""

LONGEST_DELAY = 30
"""Seconds between a crash and the next start; the first is 1, and it doubles."""

STEADY_SECONDS = 60
"""A server that was ready for so long starts again at once when it crashes."""

_VARIABLE = "LLAMA_MEDUSA_SUPERVISED"  # descriptors, as Supervised has them
_LAST_LINES = 10
_LONGEST_LINE = 1000


@dataclass(frozen=True)
class Supervised:
    """What a server has from its supervisor.

    `line` is one end of a pair of sockets: the server says over it that it is ready, and when the
    supervisor's end is closed, that one is no more. Over `wills` go its last words to clients.
    """

    listening: socket.socket
    line: socket.socket
    wills: socket.socket

    @classmethod
    def from_environment(cls) -> Self | None:
        """None where this process has no supervisor."""
        descriptors = os.environ.pop(_VARIABLE, None)
        if descriptors is None:
            return None
        return cls(*(socket.socket(fileno=int(each)) for each in descriptors.split(",")))

    def tell_ready(self) -> None:
        """Say that the model is loaded."""
        self.line.send(b"1")

    def when_orphaned(self, leave: Callable[[], None]) -> None:
        """Have a function called when the supervisor is gone: nobody could stop the server."""
        asyncio.get_running_loop().add_reader(self.line, leave)


class _Server:
    """A run of the server's process."""

    def __init__(
        self, process: asyncio.subprocess.Process, line: socket.socket, keeper: Keeper
    ) -> None:
        self.process = process
        self._line = line
        self._keeper = keeper
        asyncio.get_running_loop().add_reader(keeper, keeper.read)
        self._began = asyncio.get_running_loop().time()
        self._said: deque[str] = deque(maxlen=_LAST_LINES)  # before Python's own word on a crash
        self._crashing = False

    @classmethod
    async def start(cls, command: Sequence[str], listening: socket.socket) -> Self:
        """Start it, in a session of its own: the terminal's signals come from here."""
        ours, theirs = socket.socketpair()
        kept, wills = socket.socketpair(type=socket.SOCK_DGRAM)
        with theirs, wills:
            descriptors = (listening.fileno(), theirs.fileno(), wills.fileno())
            process = await asyncio.create_subprocess_exec(
                *command,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=descriptors,
                start_new_session=True,
                env={**os.environ, _VARIABLE: ",".join(map(str, descriptors)), **_terminal()},
            )
        return cls(process, ours, Keeper(kept))

    async def ended(self) -> int:
        """Hand on what it says, and wait for its end. Returns its exit code, as Popen has it."""
        assert self.process.stderr is not None
        rest = b""
        while piece := await self.process.stderr.read(1 << 16):
            with suppress(OSError):  # a full disk, a closed pipe
                sys.stderr.buffer.write(piece)
                sys.stderr.flush()
            *lines, rest = (rest + piece).split(b"\n")
            rest = rest[-_LONGEST_LINE:]
            for line in lines:
                self._crashing |= line.startswith(b"Fatal Python error")
                if not self._crashing and line.strip():
                    self._said.append(line[-_LONGEST_LINE:].decode("utf-8", "replace"))
        code = await self.process.wait()
        asyncio.get_running_loop().remove_reader(self._keeper)
        if code < 0:
            self._keeper.read()
            self._keeper.say()
        self._keeper.close()
        return code

    def was_ready(self) -> bool:
        """Whether it ever was; asked once, after its end."""
        self._line.setblocking(False)
        with self._line:
            try:
                return bool(self._line.recv(1))
            except OSError:
                return False

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return asyncio.get_running_loop().time() - self._began

    @property
    def last_lines(self) -> str:
        """What it said last, a line each."""
        return "".join(f"\n    {line}" for line in self._said)


async def supervise(
    command: Sequence[str],
    listening: socket.socket,
    report: Callable[[str], None],
    certificate: ssl.SSLContext | None = None,
) -> int:
    """Run a server until it ends by itself or is stopped.

    SIGTERM and SIGINT are handed on; the second one ends the server at once.

    Args:
        command: starts the server; must lead to `Supervised.from_environment`.
        listening: the server's socket.
        report: told of crashes.
        certificate: the server's, if it speaks TLS.

    Returns:
        The exit code: the server's, 0 if it was stopped, 1 if it crashes again and again.
    """
    return await _Supervisor(command, listening, report, certificate).run()


class _Supervisor:
    """Starts the server again and again, and stops it."""

    def __init__(
        self,
        command: Sequence[str],
        listening: socket.socket,
        report: Callable[[str], None],
        certificate: ssl.SSLContext | None,
    ) -> None:
        self._certificate = certificate
        self._command = command
        self._listening = listening
        self._report = report
        self._stopping = asyncio.Event()
        self._server: _Server | None = None

    async def run(self) -> int:
        """See `supervise`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        crashes = 0  # in a row
        while not self._stopping.is_set():
            self._server = server = await _Server.start(self._command, self._listening)
            if self._stopping.is_set():
                server.process.terminate()
            code = await server.ended()
            self._server = None
            was_ready = server.was_ready()
            if code >= 0:
                return code
            if self._stopping.is_set():
                return 0
            crashes = 1 if was_ready and server.seconds > STEADY_SECONDS else crashes + 1
            give_up = crashes >= MAX_FAILED_STARTS and not was_ready
            delay = min(2 ** (crashes - 1), LONGEST_DELAY)
            name = signal.Signals(-code).name
            then = (
                f"given up after {crashes} starts" if give_up else f"it starts again in {delay} s"
            )
            with suppress(OSError):
                self._report(
                    f"the server crashed ({name}) after {server.seconds:.0f} s; {then}; it last "
                    f"said:{server.last_lines or ' nothing'}"
                )
            if give_up:
                return 1
            await self._stand_in(delay)
        return 0

    def _stop(self) -> None:
        if self._server is None or not self._stopping.is_set():
            self._stopping.set()
            end = signal.SIGTERM
        else:
            end = signal.SIGKILL
        if self._server is not None:
            with suppress(ProcessLookupError):  # it has just ended
                self._server.process.send_signal(end)

    async def _stand_in(self, seconds: float) -> None:
        """Answer 503 for a while, or until the supervisor is stopped."""
        async with unavailable(self._listening, self._certificate, seconds):
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()


def _terminal() -> dict[str, str]:
    """How wide the lines may be that the server hands to us."""
    if not sys.stderr.isatty():
        return {}
    return {"COLUMNS": str(os.get_terminal_size(sys.stderr.fileno()).columns)}
