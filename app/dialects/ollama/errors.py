"""Ollama's errors, {"error": "what went wrong"}, and its streams of JSON lines."""

import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from starlette.datastructures import Headers

from app.dialects.dialect import Dialect, ErrorAnswer
from app.dialects.openai.errors import OPENAI
from app.ndjson import LineStream


class ErrorBody(BaseModel):
    """Any error."""

    error: str


STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer, by default as JSON lines",
        "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
    }
}
"""What endpoints that stream say of their answers."""


class Ollama(Dialect):
    """Ollama's wire format."""

    def key(self, headers: Headers) -> str | None:
        """As OpenAI's clients send it; Ollama itself asks for none."""
        return OPENAI.key(headers)

    def error(self, error: Exception) -> ErrorAnswer:
        """OpenAI's status, and its message alone."""
        answer = OPENAI.error(error)
        return ErrorAnswer(
            answer.status, {"error": answer.body["error"]["message"]}, answer.headers
        )

    def error_frames(self, error: Exception) -> Iterable[bytes]:
        """The error as a line of its own."""
        return (json.dumps(self.error(error).body).encode() + b"\n",)

    def stream(self, frames: AsyncIterator[bytes], on_end: Callable[[], None]) -> Response:
        """JSON lines."""
        return LineStream(frames, on_end)

    def router(self, *, guarded: bool = True) -> APIRouter:
        """See Dialect; the API reference offers to send the key."""
        router = super().router(guarded=guarded)
        router.responses = {"default": {"model": ErrorBody, "description": "An error"}}
        scheme = HTTPBearer(auto_error=False, description="The server's key, if it has one")
        router.dependencies.append(Depends(scheme))
        return router


OLLAMA = Ollama()
