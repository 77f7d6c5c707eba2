"""POST /v1/embeddings: texts as vectors."""

import base64
from typing import Any, Literal

import numpy as np
from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, field_validator

from app.backend import Backend
from app.dialects.bodies import Lenient
from app.dialects.dialect import in_words, service_of
from app.dialects.embedding import MAX_TEXTS, check_embeds, embedding_of, n_tokens, vectors
from app.dialects.openai.errors import OPENAI
from medusa.errors import InvalidRequestError

router = OPENAI.router()

_FIELD_NAMES = {"prompt": "input"}
Input = str | list[int] | list[str | list[int]]


class EmbeddingsBody(Lenient):
    """Texts to embed."""

    model: str = Field("default", description="The served model's name, or `default`.")
    input: Input = Field(description="Text, token ids, or a list of either.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64: of the numbers as little-endian float32."
    )
    dimensions: int | None = Field(
        None, ge=1, description="Only the first so many numbers, scaled to length 1 again."
    )
    user: str | None = Field(None, description="Accepted for compatibility; not used.")

    @field_validator("input", mode="plain", json_schema_input_type=Input)
    @classmethod
    def _input_kinds(cls, value: Any) -> Any:
        """Check by types alone; a union's errors would be one for each item and each kind."""
        texts = [value] if isinstance(value, str) or _are_ids(value) else value
        if not isinstance(texts, list) or not all(isinstance(t, str) or _are_ids(t) for t in texts):
            raise ValueError("must be a text, a list of token ids, or a list of either")
        if not all(texts) or not texts:
            raise ValueError("must not be empty, and no text of it")
        if len(texts) > MAX_TEXTS:
            raise ValueError(f"has {len(texts):,} texts; at most {MAX_TEXTS:,} are taken at once")
        return texts

    async def prompts(self, backend: Backend) -> list[list[int]]:
        """What is embedded, as token ids.

        Raises:
            InvalidRequestError: a text is too long.
        """
        texts = [text for text in self.input if isinstance(text, str)]
        tokens = iter(await backend.prompt_tokens(texts))
        return [next(tokens) if isinstance(each, str) else list(each) for each in self.input]  # type: ignore[arg-type]


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and set(map(type, value)) == {int}


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
    backend = service_of(request).hosts.find(body.model).backend
    check_embeds(backend)
    width = backend.info.n_embd
    if body.dimensions is not None and body.dimensions > width:
        raise InvalidRequestError(
            f"this model's embeddings have {width} dimensions, not {body.dimensions}",
            field="dimensions",
        )

    done = await vectors(request, backend, await body.prompts(backend), _FIELD_NAMES)

    def answer() -> Embeddings:
        total = n_tokens(done)
        return Embeddings(
            data=[
                Embedding(
                    index=index,
                    embedding=_encoded(embedding_of(each, body.dimensions), body.encoding_format),
                )
                for index, each in enumerate(done)
            ],
            model=backend.info.name,
            usage=EmbeddingsUsage(prompt_tokens=total, total_tokens=total),
        )

    return await in_words(answer)


def _encoded(vector: np.ndarray, encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector.tolist()
    return numbers
