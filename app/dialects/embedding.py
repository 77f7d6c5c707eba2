"""Vectors of texts: the way of every dialect that has an endpoint for them."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
from fastapi import Request

from app.backend import Backend, NotSupportedError
from app.dialects.dialect import begin, service_of
from app.exchange import Exchange
from medusa.engine.client import Generated
from medusa.engine.pooling import Pooling, normalised
from medusa.engine.requests import GenerationRequest
from medusa.errors import InvalidRequestError

_INT16 = 32760.0
_EUCLIDEAN = 2


def check_embeds(backend: Backend, dimensions: int | None = None) -> None:
    """Ask whether a model makes embeddings, of so many dimensions at least.

    Raises:
        NotSupportedError: it makes none.
        InvalidRequestError: they have fewer.
    """
    if backend.info.pooling is Pooling.RANK:
        raise NotSupportedError(
            f"the model {backend.info.name!r} ranks texts and makes no embeddings; use /v1/rerank, "
            "or serve an embedding model or one that generates text"
        )
    if dimensions is not None and dimensions > backend.info.n_embd:
        raise InvalidRequestError(
            f"this model's embeddings have {backend.info.n_embd} dimensions, not {dimensions}",
            field="dimensions",
        )


def check_ranks(backend: Backend) -> None:
    """Ask whether a model ranks texts.

    Raises:
        NotSupportedError: it does not.
    """
    if backend.info.pooling is not Pooling.RANK:
        raise NotSupportedError(
            f"the model {backend.info.name!r} cannot rank texts; serve a reranking model, a GGUF "
            "whose pooling_type is rank, such as BGE Reranker or Jina Reranker"
        )


async def vectors(
    request: Request, backend: Backend, prompts: Sequence[Sequence[int]]
) -> list[Generated]:
    """The embedding, or the scores, of each prompt, in its order.

    So many at a time as the backend has slots, so that a long list holds up nobody else.

    Args:
        request: whose client waits; when it goes away, what is left is not computed.
        backend: what computes.
        prompts: token ids.

    Raises:
        InvalidRequestError: a prompt is empty, too long, or no list of the model's tokens.
        QueueFullError: others have taken all the room.
        RateLimitedError: the client asks for too much.
    """
    service, client = service_of(request), begin(request)
    pooling = backend.info.pooling
    waiting = iter(
        GenerationRequest(tuple(prompt), max_tokens=0, pooling=pooling, tenant=client.tenant)
        for prompt in prompts
    )
    done: list[Generated] = []
    while some := list(islice(waiting, max(1, backend.stats().slots))):
        with service.metrics.refusals(len(prompts) - len(done)):
            exchange = await Exchange.start(
                backend, service.metrics, client, some, service.door.stream_buffer
            )
        done += await exchange.while_connected(request, exchange.gather())
    return done


def embedding_of(generated: Generated, dimensions: int | None = None) -> np.ndarray:
    """An embedding [n_embd] float32 of length 1, or its first so many numbers, made so again."""
    assert generated.embedding is not None
    if dimensions is None:
        return generated.embedding
    return normalised(generated.embedding[:dimensions].astype(np.float64))


def scaled(vector: np.ndarray, norm: int) -> np.ndarray:
    """A vector of length 1, scaled as llama-server's `embd_normalize` says: to 1 in the norm of
    this order; 0: so that its largest number is a 16-bit integer's (`common_embd_normalize`).
    """
    if norm == _EUCLIDEAN:
        return vector
    magnitudes = np.abs(vector.astype(np.float64))
    largest = magnitudes.max()
    length = (
        largest / _INT16
        if norm == 0
        else largest * float(((magnitudes / largest) ** norm).sum() ** (1 / norm))
    )
    return (vector / length).astype(np.float32)


def n_tokens(generated: Sequence[Generated]) -> int:
    """How many tokens were read."""
    return sum(each.usage.prompt_tokens for each in generated if each.usage is not None)
