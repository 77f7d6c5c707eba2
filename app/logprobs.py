"""Log probabilities in the two shapes that OpenAI's APIs have for them."""

from collections.abc import Iterable, Sequence

from app.schemas.chat import ChatLogprobs, TokenLogprobBody, TopLogprob
from app.schemas.completions import CompletionLogprobs
from medusa.engine.requests import TokenLogprob
from medusa.llama.model import Model


def completion_logprobs(
    model: Model,
    tokens: Sequence[int],
    entries: Sequence[TokenLogprob | None],
    offset: int,
    with_top: bool,
) -> CompletionLogprobs:
    """The completions shape.

    Args:
        model: spells the tokens.
        tokens: the tokens of `entries`, which an entry of None does not tell.
        entries: their log probabilities; None for the first token of a prompt.
        offset: characters of text before the first token.
        with_top: whether alternatives were asked for.
    """
    texts = [_text(model, token) for token in tokens]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    tops = [
        {_text(model, token): logprob for token, logprob in entry.top} if entry else None
        for entry in entries
    ]
    return CompletionLogprobs(
        tokens=texts,
        token_logprobs=[entry.logprob if entry else None for entry in entries],
        top_logprobs=tops if with_top else None,
        text_offset=offsets,
    )


def chat_logprobs(model: Model, entries: Iterable[TokenLogprob]) -> ChatLogprobs:
    """The chat shape."""
    return ChatLogprobs(
        content=[
            TokenLogprobBody(
                **_top(model, entry.token, entry.logprob).model_dump(),
                top_logprobs=[_top(model, token, logprob) for token, logprob in entry.top],
            )
            for entry in entries
        ]
    )


def _top(model: Model, token: int, logprob: float) -> TopLogprob:
    return TopLogprob(token=_text(model, token), logprob=logprob, bytes=list(model.pieces[token]))


def _text(model: Model, token: int) -> str:
    return model.pieces[token].decode("utf-8", "replace")
