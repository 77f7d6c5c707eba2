"""GET /v1/models: what this server has."""

import time
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app.state import Served, check_model_name

router = APIRouter()
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


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


@router.get("/v1/models", summary="List the served model")
async def list_models(served: Served) -> ModelList:
    """The one model this server has; the alias `default` stands for it too."""
    return ModelList(data=[_card(served)])


@router.get("/v1/models/{name:path}", summary="Describe the served model")
async def get_model(name: str, served: Served) -> ModelCard:
    """The served model, by its name or as `default`."""
    check_model_name(served, name)
    return _card(served)


def _card(served: Served) -> ModelCard:
    return ModelCard(
        id=served.name,
        max_model_len=served.engine.max_context,
        n_params=served.model.n_params,
        size_bytes=served.model.size_bytes,
        medusa_heads=served.heads.header.n_heads if served.heads else 0,
    )
