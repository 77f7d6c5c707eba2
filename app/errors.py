"""Errors as OpenAI clients expect them: {"error": {"message", "type", "param", "code"}}."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from medusa.errors import EngineStoppedError, InvalidRequestError, QueueFullError

log = logging.getLogger("app")

RETRY_AFTER_SECONDS = 2


class ClientGoneError(Exception):
    """The client closed the connection before its answer was ready."""


class ApiError(Exception):
    """An error with the HTTP status and the fields the client shall see."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code
        self.retry = retry

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {
            "error": {
                "message": str(self),
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        """The HTTP response; Retry-After where trying again makes sense."""
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if self.retry else None
        return JSONResponse(self.body, self.status, headers)


def to_api_error(error: Exception) -> ApiError:
    """What the client is told of an exception; details of unexpected ones stay in the log."""
    match error:
        case ApiError():
            return error
        case InvalidRequestError():
            return ApiError(400, str(error), param=error.param, code=error.code)
        case QueueFullError():
            return ApiError(
                503,
                f"the server is busy: {error}; try again later",
                kind="overloaded_error",
                code="queue_full",
                retry=True,
            )
        case EngineStoppedError():
            return ApiError(503, str(error), kind="server_error", code="shutting_down", retry=True)
        case _:
            return ApiError(
                500,
                f"the request failed inside the server ({type(error).__name__}); "
                "its log has the details",
                kind="server_error",
                code="internal_error",
            )


def _param_name(location: tuple[int | str, ...]) -> str | None:
    """`messages.0.content` of a pydantic location, without the names of union members."""
    names = [
        str(part)
        for part in location[1:]
        if isinstance(part, int) or (part.isidentifier() and part not in ("str", "int", "float"))
    ]
    return ".".join(names) or None


def _validation_error(error: RequestValidationError) -> ApiError:
    first = error.errors()[0]
    param = _param_name(first["loc"])
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not valid JSON: {first['ctx']['error']}")
    if first["type"] == "extra_forbidden":
        return ApiError(
            400,
            f"unknown parameter {param!r}: it is not supported and could change the result",
            param=param,
            code="unknown_parameter",
        )
    message = first["msg"].removeprefix("Value error, ")
    return ApiError(400, f"{param}: {message}" if param else message, param=param)


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of the app OpenAI-shaped."""

    async def on_validation(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return _validation_error(error).response()

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path}: {error.detail}; see /docs"
        return ApiError(error.status_code, message).response()

    async def on_client_gone(_request: Request, _error: Exception) -> Response:
        return Response(status_code=499)  # nginx's code; nobody is there to read it

    async def on_any(request: Request, error: Exception) -> JSONResponse:
        api_error = to_api_error(error)
        if api_error.status == 500:
            log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return api_error.response()

    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(ClientGoneError, on_client_gone)
    for kind in (ApiError, InvalidRequestError, QueueFullError, EngineStoppedError, Exception):
        app.add_exception_handler(kind, on_any)
