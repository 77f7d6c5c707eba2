"""Server-sent events, and what happens when the client goes away."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from app.errors import ClientGoneError, to_api_error
from app.generations import Generations

log = logging.getLogger("app")
T = TypeVar("T")


class GenerationStream(EventSourceResponse):
    """Streams chunks as OpenAI does, `data: [DONE]` last.

    An error after the start is sent as a chunk {"error": ...}. However the response ends, its
    generations do not outlive it.
    """

    def __init__(self, generations: Generations, chunks: AsyncIterator[BaseModel]) -> None:
        super().__init__(_as_events(chunks), sep="\n", headers={"X-Accel-Buffering": "no"})
        self._generations = generations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the response (ASGI)."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._generations.cancel()


async def _as_events(chunks: AsyncIterator[BaseModel]) -> AsyncIterator[ServerSentEvent]:
    try:
        async for chunk in chunks:
            yield ServerSentEvent(chunk.model_dump_json())
    except Exception as error:
        log.exception("a stream ended with an error")
        yield ServerSentEvent(json.dumps(to_api_error(error).body))
    yield ServerSentEvent("[DONE]")


async def while_connected(
    request: Request, generations: Generations, work: Coroutine[Any, Any, T]
) -> T:
    """Await `work`, but end it and its generations when the client goes away.

    Raises:
        ClientGoneError: the client went away first.
    """
    answer = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise ClientGoneError
    finally:
        gone.cancel()
        answer.cancel()
        generations.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
