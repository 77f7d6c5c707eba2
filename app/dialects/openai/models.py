"""GET /v1/models: what this server has."""

import time
from typing import Literal

from fastapi import Request
from pydantic import BaseModel

from app.dialects.dialect import service_of
from app.dialects.openai.errors import OPENAI
from app.hosts import ModelHost

router = OPENAI.router()
_STARTED = int(time.time())


class ModelCard(BaseModel):
    """A model, in OpenAI's fields and those that vLLM and llama-server add."""

    id: str
    object: Literal["model"] = "model"
    created: int = _STARTED
    owned_by: str = "llama-medusa"
    max_model_len: int
    n_params: int
    size_bytes: int
    medusa_heads: int
    architecture: str
    memory: str
    vocabulary: str
    limits: list[str]
    exact: bool  # no answer depends on what else is computed
    inexact_because: list[str]


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


@router.get("/v1/models", summary="List the served models")
async def list_models(request: Request) -> ModelList:
    """The models this server has; the alias `default` stands for the first."""
    return ModelList(data=[_card(host) for host in service_of(request).hosts.all])


@router.get("/v1/models/{name:path}", summary="Describe a served model")
async def get_model(name: str, request: Request) -> ModelCard:
    """A served model, by its name or as `default`."""
    return _card(service_of(request).hosts.named(name))


def _card(host: ModelHost) -> ModelCard:
    info = host.backend.info
    return ModelCard(
        id=host.name,
        max_model_len=info.max_context,
        n_params=info.n_params,
        size_bytes=info.size_bytes,
        medusa_heads=info.n_heads,
        architecture=info.architecture,
        memory=info.memory,
        vocabulary=info.vocabulary,
        limits=list(info.limits),
        exact=not info.inexact_because,
        inexact_because=list(info.inexact_because),
    )
