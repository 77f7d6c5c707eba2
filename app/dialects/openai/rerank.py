"""POST /v1/rerank: which documents answer a query best, in Jina's and Cohere's words."""

from typing import Annotated, Literal

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from app.dialects.bodies import NullsLeftOut, TextOrOther
from app.dialects.dialect import in_words, renamed, service_of
from app.dialects.embedding import (
    check_ranks,
    embedding_of,
    n_tokens,
    vectors,
)
from app.dialects.fields import Fields
from app.dialects.limited import AtMost, Text
from app.dialects.openai.embeddings import EmbeddingsUsage
from app.dialects.openai.errors import OPENAI

router = OPENAI.router()

_FIELD_NAMES = {"prompt": "documents"}


class Document(Fields):
    """A text to rank."""

    text: Text


class RerankBody(Fields):
    """A query and what may answer it."""

    model: str = Field("default", description="The served model's name, or `default`.")
    query: Text
    documents: Annotated[list[TextOrOther[Document]], Field(min_length=1), AtMost("max_inputs")]
    top_n: int | None = Field(None, ge=1, description="Only the best so many; null: all.")
    return_documents: bool = Field(False, description="Tell the texts too.")

    @property
    def texts(self) -> list[str]:
        """The documents' texts."""
        return [each if isinstance(each, str) else each.text for each in self.documents]


class Ranked(NullsLeftOut):
    """A document's place in the list that was sent, and its score: the higher the better."""

    index: int
    relevance_score: float
    document: Document | None = None


class Ranking(BaseModel):
    """The documents, the best first."""

    object: Literal["list"] = "list"
    model: str
    results: list[Ranked]
    usage: EmbeddingsUsage


@router.post("/v1/rerank", response_model=Ranking, summary="Rank documents by a query")
@router.post("/rerank", include_in_schema=False)
@router.post("/v1/reranking", include_in_schema=False)
@router.post("/reranking", include_in_schema=False)
@router.post("/v2/rerank", include_in_schema=False)
async def rerank(body: RerankBody, request: Request) -> Response:
    """Scores are the model's own, as llama-server tells them; they need not lie within 0 and 1."""
    texts = body.texts
    with await service_of(request).hosts.use(body.model) as backend, renamed(_FIELD_NAMES):
        name = backend.info.name
        check_ranks(backend)
        pairs = await backend.rerank_tokens(body.query, texts)
        done = await vectors(request, backend, pairs)
    scores = [float(embedding_of(each)[0]) for each in done]
    best = sorted(range(len(texts)), key=lambda index: -scores[index])[: body.top_n]

    def answer() -> Ranking:
        total = n_tokens(done)
        return Ranking(
            model=name,
            results=[
                Ranked(
                    index=index,
                    relevance_score=scores[index],
                    document=Document(text=texts[index]) if body.return_documents else None,
                )
                for index in best
            ],
            usage=EmbeddingsUsage(prompt_tokens=total, total_tokens=total),
        )

    return await in_words(answer)
