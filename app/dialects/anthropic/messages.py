"""POST /v1/messages: answer conversations, and count their tokens."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

from fastapi import Request
from pydantic import BaseModel

from app.backend import Backend
from app.dialects.anthropic.answer import AnswerMessage, Event, MessageUsage, Writer, usage_of
from app.dialects.anthropic.body import ConversationBody, MessagesBody
from app.dialects.anthropic.errors import ANTHROPIC
from app.dialects.conversation import ReadQuestion, read
from app.dialects.dialect import generate, renamed, service_of
from app.dialects.openai.errors import STREAMED
from app.sse import json_frame
from medusa.engine import events as engine
from medusa.engine.client import Generated
from medusa.engine.events import Delta
from medusa.sampling.params import SamplingParams

router = ANTHROPIC.router()


class TokenCount(BaseModel):
    """How long a conversation is."""

    input_tokens: int


@router.post(
    "/v1/messages",
    response_model=AnswerMessage,
    responses=STREAMED,
    summary="Answer a conversation, in Anthropic's format",
)
@router.post("/messages", include_in_schema=False)
async def create_message(body: MessagesBody, request: Request) -> Any:
    """Answer the last message; at once, or as server-sent events with `stream`."""
    return await generate(request, ANTHROPIC, body, MessageJob.parse)


@router.post("/v1/messages/count_tokens", summary="Count the tokens of a conversation")
@router.post("/messages/count_tokens", include_in_schema=False)
async def count_tokens(body: ConversationBody, request: Request) -> TokenCount:
    """How many tokens a model reads of what would be a request to answer."""
    with (
        await service_of(request).hosts.use(body.model) as backend,
        renamed(body.field_names),
    ):
        prompt = await backend.chat(body.question().conversation())
    return TokenCount(input_tokens=len(prompt.tokens))


class MessageJob:
    """The making of one answer."""

    def __init__(
        self, body: MessagesBody, backend: Backend, question: ReadQuestion, sampling: SamplingParams
    ) -> None:
        self._writer = Writer(question.form)
        request = question.request(sampling, max_tokens=body.max_tokens, stop=body.stop_sequences)
        self.requests = [request]
        n_prompt = len(request.prompt)
        self._message = AnswerMessage(
            id=f"msg_{uuid4().hex}",
            model=backend.info.name,
            usage=MessageUsage(input_tokens=n_prompt, cache_read_input_tokens=0, output_tokens=0),
        )

    @classmethod
    async def parse(cls, body: MessagesBody, backend: Backend) -> "MessageJob":
        """Render and tokenise the conversation.

        Raises:
            InvalidRequestError: see `conversation.read`.
        """
        question = await read(body.question(), backend)
        return cls(body, backend, question, await body.sampling(backend))

    def answer(self, generated: Sequence[Generated]) -> AnswerMessage:
        """See Job."""
        (whole,) = generated
        for _ in (*self._writer.feed(whole.text), *self._writer.finish()):
            pass
        self._end(whole)
        return self._message

    async def frames(self, events: AsyncIterator[tuple[int, engine.Event]]) -> AsyncIterator[bytes]:
        """See Job."""
        yield _frame({"type": "message_start", "message": self._message})
        yield _frame({"type": "ping"})
        generated = Generated()
        async for _, event in events:
            generated.add(event)
            if isinstance(event, Delta):
                for each in self._writer.feed(event.text):
                    yield _frame(each)
        for each in self._writer.finish():
            yield _frame(each)
        self._end(generated)
        told = {name: getattr(self._message, name) for name in ("stop_reason", "stop_sequence")}
        yield _frame({"type": "message_delta", "delta": told, "usage": self._message.usage})
        yield _frame({"type": "message_stop"})

    def _end(self, generated: Generated) -> None:
        """Finish the message."""
        assert generated.usage is not None, "it has not ended"
        message = self._message
        message.content = self._writer.blocks
        message.stop_reason = self._writer.reason(generated.reason, generated.stop)
        message.stop_sequence = generated.stop
        message.usage = usage_of(generated.usage)


def _frame(event: Event) -> bytes:
    return json_frame(event, event["type"])
