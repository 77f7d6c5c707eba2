"""The response of the chat API, whole and in chunks."""

from typing import Literal

from app.dialects.openai.answers import AnswerMessage, MessageDelta
from app.dialects.openai.common import Reason
from app.dialects.openai.drafts import DraftsIfAsked
from app.dialects.openai.logprobs import ChatLogprobs
from app.dialects.openai.usage import FINGERPRINT, UsageBody, UsageIfSet


class ChatChoice(DraftsIfAsked):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: Reason


class ChatCompletion(UsageIfSet):
    """The whole response."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str = FINGERPRINT
    choices: list[ChatChoice]
    usage: UsageBody | None = None


class ChunkChoice(DraftsIfAsked):
    """What a chunk adds to one answer."""

    index: int
    delta: MessageDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: Reason | None = None


class ChatChunk(UsageIfSet):
    """One chunk of a streamed response."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str = FINGERPRINT
    choices: list[ChunkChoice]
    usage: UsageBody | None = None
