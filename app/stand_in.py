"""What clients are told while the server is being started again.

The supervisor says it. It has not loaded the dialects, which would double its memory; so the form
of their errors stands here once more, and a test compares the two.
"""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from app.apis import Api, api_of

_MESSAGE = "the server crashed and is being started again"
_PATIENCE = 5  # seconds for a client to send its request and to read the answer


@asynccontextmanager
async def unavailable(
    listening: socket.socket, certificate: ssl.SSLContext | None, seconds: float
) -> AsyncIterator[None]:
    """Answer every request 503.

    Args:
        listening: where clients connect.
        certificate: the server's, if it speaks TLS.
        seconds: after which they may try again.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_response(head, seconds))
                if writer.can_write_eof():  # TLS cannot
                    writer.write_eof()
                while await reader.read(1 << 16):  # a body; unread, it would reset the connection
                    pass
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass  # the client's fault, and there is nobody to tell
        finally:
            writer.close()

    server = await asyncio.start_server(answer, sock=listening.dup(), ssl=certificate)
    try:
        yield
    finally:
        server.close()


def error_of(path: str) -> Mapping[str, Any]:
    """The error, as clients of a path expect it."""
    match api_of(path):
        case Api.ANTHROPIC:
            return {"type": "error", "error": {"type": "overloaded_error", "message": _MESSAGE}}
        case Api.OLLAMA:
            return {"error": _MESSAGE}
        case Api.OPENAI:
            kind = {"type": "server_error", "param": None, "code": "restarting"}
            return {"error": {"message": _MESSAGE, **kind}}


def _response(request_head: bytes, seconds: float) -> bytes:
    """The response to a request; to one of HEAD, it has no body."""
    method, _, rest = request_head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
    body = json.dumps(error_of(path)).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: {seconds:.0f}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == b"HEAD" else body)
