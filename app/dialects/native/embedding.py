"""POST /embedding: texts as vectors, in llama-server's own format."""

from collections.abc import Mapping
from typing import ClassVar

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, RootModel

from app.dialects.dialect import in_words, renamed, service_of
from app.dialects.embedding import check_embeds, embedding_of, scaled, vectors
from app.dialects.fields import Fields
from app.dialects.openai.errors import OPENAI
from app.dialects.openai.prompts import Inputs, read_prompts
from app.hosts import DEFAULT_ALIAS

router = OPENAI.router()

_FIELD_NAMES = {"prompt": "content"}


class EmbeddingBody(Fields):
    """Texts to embed."""

    other_names: ClassVar[Mapping[str, str]] = {"input": "content"}

    model: str = DEFAULT_ALIAS
    content: Inputs = Field(description="Text, token ids, or a list of either; also `input`.")
    embd_normalize: int = Field(
        2, ge=0, le=100, description="Order of the norm that becomes 1; 0: 16-bit integers."
    )


class NativeEmbedding(BaseModel):
    """The vector of a text, the only one in its list."""

    index: int
    embedding: list[list[float]]


class NativeEmbeddings(RootModel[list[NativeEmbedding]]):
    """The vectors, in the order of the texts."""


@router.post(
    "/embedding", response_model=NativeEmbeddings, summary="Embed texts, in llama-server's format"
)
async def create_embedding(body: EmbeddingBody, request: Request) -> Response:
    """Vectors of pooled hidden states, as with /v1/embeddings."""
    with await service_of(request).hosts.use(body.model) as backend, renamed(_FIELD_NAMES):
        check_embeds(backend)
        prompts = [each.tokens for each in await read_prompts(body.content, backend)]
        done = await vectors(request, backend, prompts)

    def answer() -> NativeEmbeddings:
        return NativeEmbeddings(
            [
                NativeEmbedding(
                    index=index,
                    embedding=[scaled(embedding_of(each), body.embd_normalize).tolist()],
                )
                for index, each in enumerate(done)
            ]
        )

    return await in_words(answer)
