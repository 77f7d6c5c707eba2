"""GET /v1/models: what this server has; POST /models/load and /models/unload: what is in memory."""

import time
from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel

from app.dialects.dialect import service_of
from app.dialects.openai.errors import OPENAI
from app.host import ModelHost, State

router = OPENAI.router()
_STARTED = int(time.time())


class ModelStatus(BaseModel):
    """Where a model is, as llama-server's router tells it."""

    value: State
    failed: bool = False


class Meta(BaseModel):
    """A model's sizes, as llama-server tells them."""

    n_vocab: int
    n_ctx: int  # most tokens of one request
    n_ctx_train: int
    n_embd: int
    n_params: int
    size: int  # of its weights, in bytes


class ModelCard(BaseModel):
    """A model, in OpenAI's fields and those that vLLM and llama-server add.

    What is not known before a model was ever loaded is left out.
    """

    id: str
    object: Literal["model"] = "model"
    created: int = _STARTED
    owned_by: str = "llama-medusa"
    aliases: list[str]
    status: ModelStatus
    meta: Meta | None = None
    max_model_len: int | None = None
    n_params: int | None = None
    size_bytes: int | None = None
    medusa_heads: int | None = None
    architecture: str | None = None
    memory: str | None = None
    vocabulary: str | None = None
    limits: list[str] | None = None
    exact: bool | None = None  # no answer depends on what else is computed
    inexact_because: list[str] | None = None


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class NamedModel(BaseModel):
    """Which model is meant."""

    model: str


class Done(BaseModel):
    """It was done."""

    success: Literal[True] = True


@router.get("/v1/models", response_model_exclude_none=True, summary="List the served models")
async def list_models(request: Request) -> ModelList:
    """The models this server has; the alias `default` stands for the first."""
    hosts = service_of(request).hosts
    hosts.check_started()
    return ModelList(data=[_card(host) for host in hosts.all])


@router.get(
    "/v1/models/{name:path}", response_model_exclude_none=True, summary="Describe a served model"
)
async def get_model(name: str, request: Request) -> ModelCard:
    """A served model, by its name or as `default`."""
    hosts = service_of(request).hosts
    hosts.check_started()
    return _card(hosts.named(name))


@router.post("/models/load", summary="Load a model")
async def load_model(body: NamedModel, request: Request) -> Done:
    """Answered once the model is in memory."""
    hosts = service_of(request).hosts
    with await hosts.use(hosts.named(body.model).name):
        return Done()


@router.post("/models/unload", summary="Unload a model")
async def unload_model(body: NamedModel, request: Request) -> Done:
    """Answered once the model's requests have ended and its memory is free.

    The next request for it loads it again.
    """
    await service_of(request).hosts.unload(body.model)
    return Done()


def _card(host: ModelHost) -> ModelCard:
    # `failed` is no state of llama-server's.
    failed = host.state is State.FAILED
    status = ModelStatus(value=State.UNLOADED if failed else host.state, failed=failed)
    return ModelCard(id=host.name, aliases=list(host.names[1:]), status=status, **_known(host))


def _known(host: ModelHost) -> dict[str, Any]:
    info = host.info
    if info is None:
        return {}
    return {
        "meta": Meta(
            n_vocab=info.n_vocab,
            n_ctx=info.max_context,
            n_ctx_train=info.n_ctx_train,
            n_embd=info.n_embd,
            n_params=info.n_params,
            size=info.size_bytes,
        ),
        "max_model_len": info.max_context,
        "n_params": info.n_params,
        "size_bytes": info.size_bytes,
        "medusa_heads": info.n_heads,
        "architecture": info.architecture,
        "memory": info.memory,
        "vocabulary": info.vocabulary,
        "limits": list(info.limits),
        "exact": not info.inexact_because,
        "inexact_because": list(info.inexact_because),
    }
