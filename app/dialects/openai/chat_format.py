"""The response of the chat API, whole and in chunks."""

from typing import Literal, NotRequired, TypedDict

from app.dialects.openai.answers import AnswerMessage, MessageDelta
from app.dialects.openai.common import Reason
from app.dialects.openai.drafts import DraftedToken, DraftsIfAsked
from app.dialects.openai.logprobs import ChatLogprobs
from app.dialects.openai.usage import FINGERPRINT, UsageBody, WithTimings


class ChatChoice(DraftsIfAsked):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: Reason


class ChatCompletion(WithTimings):
    """The whole response."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str = FINGERPRINT
    choices: list[ChatChoice]
    usage: UsageBody


class ChunkChoice(TypedDict):
    """What a chunk adds to one answer."""

    index: int
    delta: MessageDelta
    logprobs: ChatLogprobs | None
    finish_reason: Reason | None
    drafts: NotRequired[list[DraftedToken]]


def chunk_choice(
    index: int,
    delta: MessageDelta,
    *,
    logprobs: ChatLogprobs | None = None,
    finish_reason: Reason | None = None,
    drafts: list[DraftedToken] | None = None,
) -> ChunkChoice:
    """What a chunk adds to an answer; `drafts` only where there are any."""
    choice = ChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=finish_reason)
    if drafts is not None:
        choice["drafts"] = drafts
    return choice
