"""What a wire format is, and the one way in which a request of any of them is served."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, TypeVar, cast

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from app import last_words
from app.access_log import note_key
from app.auth import Client, Guard
from app.backend import Backend
from app.door.answers import check_logprobs
from app.door.bodies import BodyReader, ReadRequest
from app.door.config import DoorConfig
from app.door.rates import RateLimitedError
from app.door.refusals import RefusedError
from app.exchange import ClientGoneError, Exchange
from app.hosts import ModelHosts
from app.last_words import LastWords
from app.metrics import Metrics
from app.sse import EventStream
from medusa.engine.client import Generated
from medusa.engine.events import Event
from medusa.engine.requests import GenerationRequest
from medusa.errors import InvalidRequestError

log = logging.getLogger("app")

RETRY_AFTER_SECONDS = 2
RETRY = {"Retry-After": str(RETRY_AFTER_SECONDS)}
"""The headers of an error that will pass."""

CRASHED = RefusedError(
    500, "the server crashed while it was answering, and is being started again", "server_crashed"
)
"""For the clients of a process that is no more."""

CLIENT_GONE_STATUS = 499  # nginx's code; nobody is there to read it


@dataclass(frozen=True)
class Service:
    """What all requests to one server share; `app.state.service`."""

    hosts: ModelHosts
    metrics: Metrics
    guard: Guard
    bodies: BodyReader
    door: DoorConfig


def service_of(request: Request) -> Service:
    """The service of the server that handles a request."""
    service: Service = request.app.state.service
    return service


def client_of(request: Request) -> Client:
    """Whose key a request to a guarded endpoint came with."""
    client: Client = request.state.client
    return client


def begin(request: Request) -> Client:
    """Count a request for something that has to be computed; whose it is.

    Raises:
        RateLimitedError: its client asks for too much.
    """
    client = client_of(request)
    try:
        client.meter.begin()
    except RateLimitedError as error:
        service_of(request).metrics.rate_limited.labels(client.tenant.name, error.unit).inc()
        raise
    return client


@dataclass(frozen=True)
class ErrorAnswer:
    """How an error looks to a client."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> JSONResponse:
        """The HTTP response."""
        return JSONResponse(self.body, self.status, self.headers)


class Dialect(ABC):
    """A wire format: where its clients put their key and how it tells them of errors."""

    @abstractmethod
    def key(self, headers: Headers) -> str | None:
        """The key that a client sent."""

    @abstractmethod
    def error(self, error: Exception) -> ErrorAnswer:
        """What a client is told of any exception; details of unexpected ones stay in the log."""

    @abstractmethod
    def error_frames(self, error: Exception) -> Iterable[bytes]:
        """What ends a stream that fails after its start."""

    def stream(self, frames: AsyncIterator[bytes], on_end: Callable[[], None]) -> Response:
        """The response that sends frames as they come; `on_end` is called however it ends."""
        return EventStream(frames, on_end)

    def router(self, *, guarded: bool = True) -> APIRouter:
        """A router for endpoints of this dialect; if guarded, the key is asked for before all."""
        return APIRouter(route_class=_route_class(self, guarded))


def _route_class(dialect: Dialect, guarded: bool) -> type[APIRoute]:
    class DialectRoute(APIRoute):
        """Lets in who has the key, reads the body, and speaks of errors in the dialect."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()
            model: type[BaseModel] | None = None
            if self.body_field is not None:
                model = cast(type[BaseModel], self.body_field.field_info.annotation)

            async def handle(request: Request) -> Response:
                service = service_of(request)
                try:
                    if guarded:
                        request.state.client = service.guard.check(dialect.key(request.headers))
                        note_key(client_of(request).tenant.name)
                    if model is not None:
                        request = ReadRequest(request, await service.bodies.read(request, model))
                    response = await handler(request)
                    if guarded:
                        response.headers.update(client_of(request).meter.headers())
                    return response
                except (ClientGoneError, ClientDisconnect):
                    return Response(status_code=CLIENT_GONE_STATUS)
                except Exception as error:
                    answer = dialect.error(error)
                    if answer.status == 500:
                        log.exception("%s %s failed", request.method, request.url.path)
                    return answer.response()

            return handle

    return DialectRoute


class Job(Protocol):
    """What a body asks for, and how the answer is put into words."""

    @property
    def requests(self) -> Sequence[GenerationRequest]:
        """What the backend is to run."""

    def answer(self, generated: Sequence[Generated]) -> BaseModel:
        """The whole answer, from what became of each request."""

    def frames(self, events: AsyncIterator[tuple[int, Event]]) -> AsyncIterator[bytes]:
        """The stream, from (index of the request, event)."""


class GeneratingBody(Protocol):
    """A parsed body that asks for generations."""

    field_names: ClassVar[Mapping[str, str]]
    """The body's names for fields of GenerationRequest, where they differ."""
    model: str
    stream: bool
    priority: int

    @property
    def count(self) -> int:
        """How many requests it will become."""


Body = TypeVar("Body", bound=GeneratingBody)


async def generate(
    request: Request,
    dialect: Dialect,
    body: Body,
    parse: Callable[[Body, Backend], Awaitable[Job]],
) -> Response:
    """Serve a generating request: at once, or as a stream if the body asks for one."""
    service, client = service_of(request), begin(request)
    with ExitStack() as ending:
        words: LastWords | None = getattr(request.state, "last_words", None)
        if words is not None:
            ending.callback(words.forget)
            words.keep(last_words.whole(dialect.error(CRASHED).response()))
        backend = ending.enter_context(await service.hosts.use(body.model))
        exchange, job = await _start(service, client, body, backend, parse)
        if body.stream:
            ending.callback(exchange.cancel)
            if words is not None:
                end = b"".join(dialect.error_frames(CRASHED))
                words.keep(last_words.rest(end, request.scope["http_version"]))
            frames = _guarded(dialect, job.frames(exchange.events()))
            return dialect.stream(frames, ending.pop_all().close)
        generated = await exchange.while_connected(request, exchange.gather())
        return await in_words(lambda: job.answer(generated))


async def _start(
    service: Service,
    client: Client,
    body: Body,
    backend: Backend,
    parse: Callable[[Body, Backend], Awaitable[Job]],
) -> tuple[Exchange, Job]:
    """Hand what a body asks for to the backend."""
    with renamed(body.field_names), service.metrics.refusals(body.count):
        backend.check_room(body.count, client.tenant)
        job = await parse(body, backend)
        check_logprobs(
            job.requests,
            stream=body.stream,
            max_context=backend.info.max_context,
            most=service.door.limits.max_logprobs,
        )
        requests = [
            replace(each, tenant=client.tenant, priority=body.priority) for each in job.requests
        ]
        exchange = await Exchange.start(
            backend, service.metrics, client, requests, service.door.stream_buffer
        )
    return exchange, job


@contextmanager
def renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Tell of what is wrong by a body's names for fields of GenerationRequest."""
    try:
        yield
    except InvalidRequestError as error:
        if error.field is not None:
            error.field = names.get(error.field, error.field)
        raise


async def in_words(answer: Callable[[], BaseModel]) -> Response:
    """The response with an answer, which is made beside the event loop, as it may be long."""
    content = await asyncio.to_thread(lambda: answer().model_dump_json())
    return Response(content, media_type="application/json")


async def _guarded(dialect: Dialect, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for frame in frames:
            yield frame
    except Exception as error:
        if dialect.error(error).status == 500:
            log.exception("a stream ended with an error")
        for frame in dialect.error_frames(error):
            yield frame
