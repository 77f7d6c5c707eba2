"""The FastAPI application."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from app.access_log import AccessLog
from app.auth import Guard
from app.dialects.anthropic import messages
from app.dialects.by_path import dialect_of
from app.dialects.dialect import Service
from app.dialects.fields import BodyRules, UnknownFields
from app.dialects.native import (
    completion,
    embedding,
    infill,
    lora_adapters,
    operations,
    page,
    prompts,
    props,
    slots,
    tokens,
)
from app.dialects.ollama import endpoints as ollama
from app.dialects.openai import chat, completions, embeddings, models, rerank
from app.dialects.responses import endpoints as responses
from app.dialects.responses.memory import ResponseMemory
from app.door.bodies import BodyReader
from app.door.config import DoorConfig
from app.door.cors import let_in_pages
from app.door.gate import Gate
from app.door.keys import ApiKey
from app.door.paths import Paths
from app.hosts import ModelHosts
from app.metrics import Metrics
from app.request_ids import RequestIds

_ENDPOINTS = (
    completions,
    chat,
    embeddings,
    rerank,
    responses,
    messages,
    ollama,
    models,
    completion,
    embedding,
    infill,
    lora_adapters,
    prompts,
    props,
    slots,
    tokens,
    operations,
    page,
)


def create_app(
    hosts: ModelHosts, *, api_keys: Collection[ApiKey] = (), door: DoorConfig | None = None
) -> FastAPI:
    """Build the application. It loads the models in the background once it runs.

    Args:
        hosts: the models; closed when the server ends.
        api_keys: of which clients must send one; none lets everybody in.
        door: the limits on what clients may do.

    Raises:
        ValueError: a key is empty.
    """
    door = door or DoorConfig()
    guard = Guard(api_keys)
    bodies = BodyReader(door.limits, BodyRules(door.limits, UnknownFields(door.strict)))
    service = Service(hosts, Metrics(hosts.stats), guard, bodies, door)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with hosts.running(service.metrics.observe_step):
            yield

    app: FastAPI = FastAPIOffline(  # the API reference works without internet
        title="llama-medusa",
        version=version("llama-medusa"),
        summary="A chat model with Medusa heads and continuous batching behind the OpenAI API.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.responses = ResponseMemory(door.max_responses, door.response_memory)
    app.add_middleware(Gate, config=door, guard=guard)
    app.add_middleware(Paths, routes=app.routes)  # the last one is entered first
    let_in_pages(app, door.cors_origins)
    app.add_middleware(AccessLog)
    app.add_middleware(RequestIds)
    app.add_exception_handler(HTTPException, _no_such_endpoint)
    for module in _ENDPOINTS:
        app.include_router(module.router)
    return app


async def _no_such_endpoint(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}; see /docs"
    dialect = dialect_of(request.url.path)
    return dialect.error(HTTPException(error.status_code, message, error.headers)).response()
