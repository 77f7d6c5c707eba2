"""POST /v1/embeddings: texts as vectors."""

import base64
from typing import Literal

import numpy as np
from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, field_validator

from app.dialects.dialect import in_words, renamed, service_of
from app.dialects.embedding import (
    check_embeds,
    embedding_of,
    n_tokens,
    scaled,
    vectors,
)
from app.dialects.fields import Fields
from app.dialects.openai.errors import OPENAI
from app.dialects.openai.prompts import Inputs, Prompt, read_prompts

router = OPENAI.router()

_FIELD_NAMES = {"prompt": "input"}


class EmbeddingsBody(Fields):
    """Texts to embed."""

    model: str = Field("default", description="The served model's name, or `default`.")
    input: Inputs = Field(description="Text, token ids, or a list of either.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64: of the numbers as little-endian float32."
    )
    dimensions: int | None = Field(
        None, ge=1, description="Only the first so many numbers, scaled to length 1 again."
    )
    embd_normalize: int = Field(
        2, ge=0, le=100, description="Order of the norm that becomes 1; 0: 16-bit integers."
    )
    user: str | None = Field(None, description="Accepted for compatibility; not used.")

    @field_validator("input", mode="after")
    @classmethod
    def _not_empty(cls, value: list[Prompt]) -> list[Prompt]:
        if not all(value):
            raise ValueError("must not be empty, and no text of it")
        return value


class Embedding(BaseModel):
    """The vector of a text."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(BaseModel):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """The vectors, in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


@router.post("/v1/embeddings", response_model=Embeddings, summary="Embed texts")
@router.post("/embeddings", include_in_schema=False)
async def create_embeddings(body: EmbeddingsBody, request: Request) -> Response:
    """Vectors of length 1: of an embedding model, else the model's hidden states, pooled."""
    with await service_of(request).hosts.use(body.model) as backend:
        name = backend.info.name
        check_embeds(backend, body.dimensions)
        with renamed(_FIELD_NAMES):
            prompts = [each.tokens for each in await read_prompts(body.input, backend)]
            done = await vectors(request, backend, prompts)

    def answer() -> Embeddings:
        total = n_tokens(done)
        return Embeddings(
            data=[
                Embedding(
                    index=index,
                    embedding=_encoded(
                        scaled(embedding_of(each, body.dimensions), body.embd_normalize),
                        body.encoding_format,
                    ),
                )
                for index, each in enumerate(done)
            ],
            model=name,
            usage=EmbeddingsUsage(prompt_tokens=total, total_tokens=total),
        )

    return await in_words(answer)


def _encoded(vector: np.ndarray, encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector.tolist()
    return numbers
