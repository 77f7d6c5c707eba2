"""OpenAI's errors, {"error": {"message", "type", "param", "code"}}, and its way to send a key."""

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from app.auth import UnauthorizedError
from app.backend import NotSupportedError
from app.dialects.dialect import RETRY, Dialect, ErrorAnswer
from app.dialects.limited import LIMIT_EXCEEDED
from app.door.limits import LimitError
from app.door.rates import RateLimitedError
from app.door.refusals import RefusedError
from app.host import ModelFailedError, ModelLoadingError
from app.hosts import UnknownModelError
from app.sse import frame, json_frame
from app.texts import NoChatTemplateError
from medusa.errors import (
    ContextLengthError,
    CostlyGrammarError,
    CostlyTemplateError,
    EngineStoppedError,
    InvalidRequestError,
    NotNumbersError,
    QueueFullError,
)


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None  # the field that is wrong
    code: str | None


class ErrorBody(BaseModel):
    """Any error."""

    error: ErrorDetail


_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request can never be answered"},
    401: {"description": "The key is missing or wrong"},
    404: {"description": "There is no such model"},
    413: {"description": "The body is too large"},
    429: {"description": "The key's rate limit is reached; with Retry-After"},
    503: {"description": "Busy, loading or shutting down; with Retry-After where it will pass"},
    "default": {"description": "Another error"},
}

STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer, with `stream` as server-sent events",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
"""What endpoints that can stream say of their answers."""

DONE = frame(b"[DONE]")
"""The last frame of a stream."""


class OpenAI(Dialect):
    """OpenAI's wire format."""

    def key(self, headers: Headers) -> str | None:
        """The bearer token of `Authorization`, or `X-Api-Key`."""
        scheme, key = get_authorization_scheme_param(headers.get("authorization"))
        return key if scheme.lower() == "bearer" else headers.get("x-api-key")

    def error(self, error: Exception) -> ErrorAnswer:
        """Status and body that OpenAI's clients expect."""
        match error:
            case RequestValidationError():
                return _validation_error(error)
            case RateLimitedError(status_code=status):
                message, headers = str(error.detail), error.headers or {}
                return _error(status, message, error.unit, code=error.code, headers=headers)
            case RefusedError(status_code=status):
                fault = "overloaded_error" if status == 503 else "server_error"
                kind = "invalid_request_error" if status < 500 else fault
                message = str(error.detail)
                return _error(status, message, kind, code=error.code, headers=error.headers or {})
            case HTTPException(status_code=status):
                return _error(
                    status,
                    str(error.detail),
                    "invalid_request_error",
                    headers=error.headers or {},  # of a 405: which methods there are
                )
            case UnauthorizedError():
                return _error(
                    401,
                    f"{error}; send it as `Authorization: Bearer KEY`",
                    "authentication_error",
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            case UnknownModelError():
                return _invalid(str(error), status=404, param="model", code="model_not_found")
            case ContextLengthError():
                answer = _error(
                    400,
                    str(error),
                    "exceed_context_size_error",  # llama-server's, while the code is OpenAI's
                    param=error.field,
                    code="context_length_exceeded",
                )
                answer.body["error"].update(n_prompt_tokens=error.n_prompt, n_ctx=error.limit)
                return answer
            case NotSupportedError():
                return _error(501, str(error), "not_supported_error", code="not_supported")
            case NoChatTemplateError():
                hint = "use /v1/completions, or start the server with --chat-template"
                return _invalid(f"{error}; {hint}", code="no_chat_template")
            case CostlyTemplateError():
                options = "--template-seconds or --template-memory"
                return _limit_exceeded(f"{error} ({options})", error.field)
            case CostlyGrammarError():
                return _limit_exceeded(f"{error} (--grammar-work)", error.field)
            case LimitError():
                return _limit_exceeded(str(error), error.field)
            case InvalidRequestError():
                return _invalid(str(error), param=error.field)
            case QueueFullError():
                message = f"the server is busy: {error}; try again later"
                return _error(503, message, "overloaded_error", code="queue_full", headers=RETRY)
            case ModelLoadingError():
                return _error(503, str(error), "server_error", code="loading", headers=RETRY)
            case ModelFailedError():
                return _error(503, str(error), "server_error", code="model_failed")
            case EngineStoppedError():
                return _error(503, str(error), "server_error", code="shutting_down", headers=RETRY)
            case NotNumbersError():
                return _error(500, str(error), "server_error", code="not_numbers")
            case _:
                message = (
                    f"the request failed inside the server ({type(error).__name__}); "
                    "its log has the details"
                )
                return _error(500, message, "server_error", code="internal_error")

    def error_frames(self, error: Exception) -> Iterable[bytes]:
        """The error as a chunk of its own, then the end."""
        return json_frame(self.error(error).body), DONE

    def router(self, *, guarded: bool = True) -> APIRouter:
        """See Dialect; the API reference offers to send the key."""
        router = super().router(guarded=guarded)
        router.responses = {status: {"model": ErrorBody, **e} for status, e in _ERRORS.items()}
        if guarded:
            scheme = HTTPBearer(auto_error=False, description="The server's key, if it has one")
            router.dependencies.append(Depends(scheme))
        return router


OPENAI = OpenAI()


def _error(
    status: int,
    message: str,
    kind: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] = {},
) -> ErrorAnswer:
    body = {"message": message, "type": kind, "param": param, "code": code}
    return ErrorAnswer(status, {"error": body}, headers)


def _invalid(
    message: str, *, status: int = 400, param: str | None = None, code: str | None = None
) -> ErrorAnswer:
    return _error(status, message, "invalid_request_error", param=param, code=code)


def _limit_exceeded(message: str, param: str | None) -> ErrorAnswer:
    words = f"{param}: {message}" if param else message
    return _invalid(words, param=param, code=LIMIT_EXCEEDED)


def _validation_error(error: RequestValidationError) -> ErrorAnswer:
    first = error.errors()[0]
    param = _param_name(first["loc"], error.body)
    if first["type"] == "json_invalid":
        return _invalid(f"the body is not valid JSON: {first['ctx']['error']}")
    if first["type"] == "extra_forbidden":
        return _invalid(
            f"unknown parameter {param!r}; without --strict it would be ignored",
            param=param,
            code="unknown_parameter",
        )
    if first["type"] == "unsupported":
        return _invalid(
            f"{param!r} is not supported with this value, which would change the answer",
            param=param,
            code="unsupported_parameter",
        )
    if first["type"] == LIMIT_EXCEEDED:
        return _limit_exceeded(first["msg"], param)
    message = first["msg"].removeprefix("Value error, ")
    return _invalid(f"{param}: {message}" if param else message, param=param)


def _param_name(location: tuple[int | str, ...], body: Any) -> str | None:
    """`messages.0.content` of a pydantic location, without the names of union members.

    Args:
        location: begins with "body".
        body: what was sent; except for the last, names that are not in it are of union members.
    """
    names = []
    for place, part in enumerate(location[1:], 2):
        is_last = place == len(location)
        if isinstance(part, int) or (isinstance(body, dict) and part in body):
            names.append(str(part))
            body = None if is_last else body[part]
        elif is_last and isinstance(body, dict) and part.isidentifier() and part != "str":
            names.append(part)  # left out
    return ".".join(names) or None
