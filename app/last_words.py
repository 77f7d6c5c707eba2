"""What clients are told when a crash ends the server's process while it answers them.

The supervisor keeps a duplicate of the connection of every request that is being answered, which
therefore outlives the process, and the bytes that bring the answer to an end.
"""

from __future__ import annotations

import http
import itertools
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.responses import Response

_ID_BYTES = 8
_MOST_BYTES = 1 << 16  # of a message
_PATIENCE = 1.0  # seconds for a supervisor to read what is told to it

_ids = itertools.count()


class LastWords:
    """The server's side: those for one connection.

    Without a supervisor, or if it does not listen, there are none.

    Args:
        line: to the supervisor, a socket of datagrams.
        connection: descriptor of the client's connection.
    """

    def __init__(self, line: socket.socket, connection: int) -> None:
        self._line = line
        self._connection = connection
        self._id = next(_ids).to_bytes(_ID_BYTES)
        line.settimeout(_PATIENCE)

    def keep(self, words: bytes) -> None:
        """Have these said after a crash, in place of earlier ones."""
        with suppress(OSError):
            socket.send_fds(self._line, [self._id + words], [self._connection])

    def forget(self) -> None:
        """There is nothing to say any more."""
        with suppress(OSError):
            self._line.send(self._id)


class Keeper:
    """The supervisor's side.

    Args:
        line: from the server.
    """

    def __init__(self, line: socket.socket) -> None:
        line.setblocking(False)
        self._line = line
        self._kept: dict[bytes, tuple[socket.socket, bytes]] = {}

    def fileno(self) -> int:
        """Descriptor that is readable when there is something to `read`."""
        return self._line.fileno()

    def read(self) -> None:
        """Take in what the server has told."""
        with suppress(BlockingIOError):
            while True:
                message, descriptors, _, _ = socket.recv_fds(self._line, _MOST_BYTES, 1)
                key, words = message[:_ID_BYTES], message[_ID_BYTES:]
                if key in self._kept:
                    self._kept.pop(key)[0].close()
                if descriptors:
                    self._kept[key] = (socket.socket(fileno=descriptors[0]), words)

    def say(self) -> None:
        """Tell all clients, and close their connections."""
        for connection, words in self._kept.values():
            with suppress(OSError):  # the client has gone
                connection.setblocking(False)
                connection.send(words)
                connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let go of the connections."""
        self._line.close()
        for connection, _ in self._kept.values():
            connection.close()
        self._kept.clear()


def whole(response: Response) -> bytes:
    """A response that has not begun, as it is sent."""
    phrase = http.HTTPStatus(response.status_code).phrase
    lines = [f"HTTP/1.1 {response.status_code} {phrase}".encode()]
    lines += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join([*lines, b"connection: close", b"", bytes(response.body)])


def rest(content: bytes, http_version: str) -> bytes:
    """The end of a response without a length that has begun, as it is sent."""
    if http_version == "1.0":
        return content
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
