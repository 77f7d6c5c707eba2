"""GET /api/version, /api/tags and /api/ps, POST /api/show: what this server has."""

import hashlib
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from pydantic import BaseModel, Field

from app.backend import Backend
from app.dialects.dialect import service_of
from app.dialects.ollama.body import ModelName, OllamaBody
from app.dialects.ollama.errors import OLLAMA
from app.host import ModelHost
from app.model_info import ModelInfo
from app.texts import NoChatTemplateError
from medusa.engine.pooling import Pooling
from medusa.text.chat_template import Conversation

router = OLLAMA.router()

VERSION = "0.13.0"
"""Of Ollama, whose API this is: clients ask for it to know what they may use."""

_STARTED = datetime.now(UTC).isoformat().replace("+00:00", "Z")
_NEVER = "2318-01-01T00:00:00Z"  # as Ollama says it of models that stay


class Version(BaseModel):
    """The version of Ollama's API."""

    version: str = VERSION


class Details(BaseModel):
    """What kind of model it is."""

    parent_model: str = ""
    format: str = "gguf"
    family: str = ""
    families: list[str] = []
    parameter_size: str = ""
    quantization_level: str = ""


class Tag(BaseModel):
    """A model."""

    name: str
    model: str
    modified_at: str = _STARTED
    size: int
    digest: str = Field(description="A fixed id; not the file's checksum.")
    details: Details


class Tags(BaseModel):
    """All models."""

    models: list[Tag]


class Running(Tag):
    """A model that is loaded."""

    expires_at: str = _NEVER
    size_vram: int = 0
    context_length: int


class RunningModels(BaseModel):
    """The models that are loaded."""

    models: list[Running]


class ShowBody(OllamaBody):
    """Which model to tell of."""

    name: ModelName | None = Field(None, description="Older name of model.")


class Shown(BaseModel):
    """What is known of a model."""

    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str = _STARTED


@router.get("/api/version", summary="The version (Ollama)")
async def version() -> Version:
    """The version of Ollama whose API this is."""
    return Version()


@router.get("/api/tags", summary="List the served models (Ollama)")
async def tags(request: Request) -> Tags:
    """The models that this server has."""
    hosts = service_of(request).hosts
    hosts.check_started()
    return Tags(models=[tag for host in hosts.all for tag in (Tag(**_tag(host)), *_adapted(host))])


@router.get("/api/ps", summary="List the loaded models (Ollama)")
async def running(request: Request) -> RunningModels:
    """The models that are loaded."""
    loaded = [host for host in service_of(request).hosts.all if host.is_ready]
    return RunningModels(
        models=[
            Running(**_tag(host), context_length=host.backend.info.max_context) for host in loaded
        ]
    )


@router.post("/api/show", summary="Describe a served model (Ollama)")
async def show(body: ShowBody, request: Request) -> Shown:
    """What is known of a model."""
    with await service_of(request).hosts.use(body.name or body.model) as backend:
        info, capabilities = backend.info, await _capabilities(backend)
    name = info.architecture
    return Shown(
        details=_details(info),
        model_info={
            "general.architecture": name,
            "general.basename": info.name,
            "general.parameter_count": info.n_params,
            f"{name}.context_length": info.max_context,
            f"{name}.embedding_length": info.n_embd,
            "tokenizer.ggml.model": info.vocabulary,
        },
        capabilities=capabilities,
    )


async def _capabilities(backend: Backend) -> list[str]:
    """What can be asked of a model, in Ollama's words."""
    if not backend.info.generates:
        return [] if backend.info.pooling is Pooling.RANK else ["embedding"]
    try:
        prompt = await backend.chat(Conversation([{"role": "user", "content": "?"}], [], {}))
    except NoChatTemplateError:
        return ["completion"]
    return ["completion", "tools", *(["thinking"] if prompt.form.reasoning else [])]


def _adapted(host: ModelHost) -> list[Tag]:
    """The model's LoRA adapters."""
    base = Tag(**_tag(host))
    details = base.details.model_copy(update={"parent_model": base.name})
    return [Tag(**_tag(host, each.name) | {"details": details}) for each in host.adapters.named]


def _tag(host: ModelHost, name: str | None = None) -> dict[str, Any]:
    """What is known of a model, or of it by another name; little before it was ever loaded."""
    name = name or host.name
    name = name if ":" in name else f"{name}:latest"
    return {
        "name": name,
        "model": name,
        "size": host.info.size_bytes if host.info else 0,
        "digest": hashlib.sha256(name.encode()).hexdigest(),
        "details": _details(host.info) if host.info else Details(),
    }


def _details(info: ModelInfo) -> Details:
    millions = info.n_params / 1e6
    size = f"{millions / 1e3:.1f}B" if millions >= 1e3 else f"{millions:.2f}M"
    return Details(family=info.architecture, families=[info.architecture], parameter_size=size)
