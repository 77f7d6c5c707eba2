"""A server that says what it is told, as OpenAI's API does."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Script:
    """What is answered, and what was asked.

    Attributes:
        pieces: of each answer.
        pause: seconds before each.
        usage: whether tokens are told.
        status: of all answers.
        ends: whether answers have a reason to end.
        bodies: of the requests so far.
        most: requests at the same time so far.
    """

    pieces: tuple[dict[str, Any], ...] = ({"content": "Good "}, {"content": "day"})
    pause: float = 0.0
    usage: bool = True
    status: int = 200
    ends: bool = True
    bodies: list[dict[str, Any]] = field(default_factory=list)
    most: int = 0
    _running: int = 0

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Stream the pieces."""
        self.bodies.append(await request.json())
        self._running += 1
        self.most = max(self.most, self._running)
        try:
            return await self._stream(request)
        finally:
            self._running -= 1

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if self.status != 200:
            return web.json_response({"error": {"message": "no"}}, status=self.status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in self.pieces:
            await asyncio.sleep(self.pause)
            await self._send(response, {"choices": [{"index": 0, "delta": piece}]})
        if self.ends:
            last = {"index": 0, "delta": {}, "finish_reason": "stop"}
            await self._send(response, {"choices": [last]})
        if self.usage:
            await self._send(response, {"choices": [], "usage": {"completion_tokens": 7}})
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _send(self, response: web.StreamResponse, chunk: dict[str, Any]) -> None:
        await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")


@contextmanager
def scripted(script: Script) -> Iterator[str]:
    """The address of such a server while the context lasts."""
    ready, stop = threading.Event(), asyncio.Event()
    address: list[str] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", script.chat)
        app.router.add_get("/v1/models", _models)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield address[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _models(_: web.Request) -> web.Response:
    return web.json_response({"data": [{"id": "scripted", "object": "model"}]})
