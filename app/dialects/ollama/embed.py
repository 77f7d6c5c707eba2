"""POST /api/embed and its older form, /api/embeddings: texts as vectors."""

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from app.backend import Backend
from app.dialects.bodies import TextOr
from app.dialects.dialect import in_words, renamed, service_of
from app.dialects.embedding import (
    check_embeds,
    embedding_of,
    n_tokens,
    vectors,
)
from app.dialects.limited import Text, checked
from app.dialects.ollama.body import OllamaBody
from app.dialects.ollama.errors import OLLAMA

router = OLLAMA.router()


class EmbedBody(OllamaBody):
    """Texts to embed."""

    input: TextOr[Text] = Field(default="", description="A text or a list of texts.")
    truncate: bool = Field(True, description="Cut off what the model cannot read.")
    dimensions: int | None = Field(
        None, ge=1, description="Only the first so many numbers, scaled to length 1 again."
    )

    @field_validator("input", mode="after")
    @classmethod
    def _not_too_many(cls, value: str | list[str], info: ValidationInfo) -> str | list[str]:
        if isinstance(value, list):
            checked(value, "max_inputs", info)
        return value

    @property
    def texts(self) -> list[str]:
        """The texts; none is asked for by an empty one."""
        if isinstance(self.input, str):
            return [self.input] if self.input else []
        return self.input


class Embedded(BaseModel):
    """The vectors, in the order of the texts; durations in nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int = 0
    prompt_eval_count: int


class OldEmbedBody(OllamaBody):
    """A text to embed."""

    prompt: Text = ""


class OldEmbedded(BaseModel):
    """Its vector."""

    embedding: list[float]


@router.post("/api/embed", response_model=Embedded, summary="Embed texts (Ollama)")
async def embed(body: EmbedBody, request: Request) -> Response:
    """Vectors of length 1."""
    with await service_of(request).hosts.use(body.model) as backend, renamed({"prompt": "input"}):
        check_embeds(backend, body.dimensions)
        prompts = await _prompts(backend, body.texts, cut=body.truncate)
        done = await vectors(request, backend, prompts)
    return await in_words(
        lambda: Embedded(
            model=body.model,
            embeddings=[embedding_of(each, body.dimensions).tolist() for each in done],
            total_duration=body.elapsed(),
            prompt_eval_count=n_tokens(done),
        )
    )


@router.post("/api/embeddings", response_model=OldEmbedded, summary="Embed a text (Ollama)")
async def embeddings(body: OldEmbedBody, request: Request) -> Response:
    """A vector of length 1."""
    with await service_of(request).hosts.use(body.model) as backend:
        check_embeds(backend)
        prompts = await _prompts(backend, [body.prompt] if body.prompt else [], cut=True)
        done = await vectors(request, backend, prompts)
    return await in_words(
        lambda: OldEmbedded(embedding=embedding_of(done[0]).tolist() if done else [])
    )


async def _prompts(backend: Backend, texts: list[str], *, cut: bool) -> list[list[int]]:
    prompts = await backend.prompt_tokens(texts)
    return [tokens[: backend.info.max_context] for tokens in prompts] if cut else prompts
