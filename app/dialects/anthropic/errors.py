"""Anthropic's errors, {"type": "error", "error": {"type", "message"}}, and where its key is."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from fastapi import APIRouter, Depends
from fastapi.security import APIKeyHeader
from pydantic import BaseModel
from starlette.datastructures import Headers

from app.auth import UnauthorizedError
from app.dialects.dialect import Dialect, ErrorAnswer
from app.dialects.openai.errors import OPENAI
from app.sse import json_frame
from medusa.errors import QueueFullError

_OVERLOADED = 529
_KINDS: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    _OVERLOADED: "overloaded_error",
}


class ErrorDetail(BaseModel):
    """What went wrong."""

    type: str
    message: str


class ErrorBody(BaseModel):
    """Any error."""

    type: Literal["error"] = "error"
    error: ErrorDetail


_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request can never be answered"},
    401: {"description": "The key is missing or wrong"},
    404: {"description": "There is no such model"},
    413: {"description": "The body is too large"},
    429: {"description": "The key's rate limit is reached; with Retry-After"},
    503: {"description": "Loading or shutting down; with Retry-After where it will pass"},
    _OVERLOADED: {"description": "Busy; with Retry-After"},
    "default": {"description": "Another error"},
}


class Anthropic(Dialect):
    """Anthropic's wire format."""

    def key(self, headers: Headers) -> str | None:
        """`x-api-key`, or the bearer token of `Authorization`."""
        return headers.get("x-api-key") or OPENAI.key(headers)

    def error(self, error: Exception) -> ErrorAnswer:
        """Status and body that Anthropic's clients expect; the words are those for OpenAI's."""
        answer = OPENAI.error(error)
        status, message = answer.status, answer.body["error"]["message"]
        match error:
            case QueueFullError():
                status = _OVERLOADED
            case UnauthorizedError():
                message = f"{error}; send it as `x-api-key: KEY`"
        kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "api_error")
        body = ErrorBody(error=ErrorDetail(type=kind, message=message))
        return ErrorAnswer(status, body.model_dump(), answer.headers)

    def error_frames(self, error: Exception) -> Iterable[bytes]:
        """The error as the last event."""
        return (json_frame(self.error(error).body, "error"),)

    def router(self, *, guarded: bool = True) -> APIRouter:
        """See Dialect; the API reference offers to send the key."""
        router = super().router(guarded=guarded)
        router.responses = {status: {"model": ErrorBody, **e} for status, e in _ERRORS.items()}
        if guarded:
            scheme = APIKeyHeader(name="x-api-key", auto_error=False)
            router.dependencies.append(Depends(scheme))
        return router


ANTHROPIC = Anthropic()
