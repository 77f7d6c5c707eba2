"""POST /v1/chat/completions: answer conversations."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from fastapi import Request
from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from app.backend import Backend
from app.dialects.dialect import generate
from app.dialects.openai.common import (
    MAX_LOGPROBS,
    REASONS,
    GenerationBody,
    Reason,
    UsageBody,
    UsageIfSet,
    finish_reason,
    new_identity,
    total_usage,
)
from app.dialects.openai.errors import DONE, OPENAI, STREAMED
from app.dialects.openai.logprobs import ChatLogprobs, chat_logprobs
from app.sse import frame
from medusa.engine.client import Generated
from medusa.engine.events import Delta, Event, Finished, TokenLogprob, Usage
from medusa.sampling.constraints import TokenConstraint

router = OPENAI.router()


class TextPart(BaseModel):
    """A piece of a message's content; only text is supported."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    @field_validator("content", mode="wrap")
    @classmethod
    def _only_text(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(
                "must be a string or a list of text parts; other kinds of content are not supported"
            ) from None

    def for_template(self) -> dict[str, Any]:
        """The message as Hugging Face's chat templates know it."""
        message = self.model_dump(exclude_none=True)
        if self.role == "developer":
            message["role"] = "system"
        return message


class ChatBody(GenerationBody):
    """A request to answer a conversation."""

    field_names: ClassVar[Mapping[str, str]] = {"prompt": "messages"}

    messages: Annotated[list[ChatMessage], Field(min_length=1), FailFast()]
    max_tokens: int | None = Field(None, ge=1, description="Older name of max_completion_tokens.")
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    tools: None = Field(None, description="Not supported.")
    tool_choice: Literal["none"] | None = None

    @field_validator("tools", mode="before")
    @classmethod
    def _no_tools(cls, value: Any) -> None:
        if value:
            raise ValueError("tool calls are not supported")

    @model_validator(mode="after")
    def _top_needs_logprobs(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        return self

    @property
    def count(self) -> int:
        """Generations it asks for."""
        return self.n

    @property
    def token_limit(self) -> int | None:
        """Most tokens to generate; None: up to the context limit."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class AnswerMessage(BaseModel):
    """The assistant's message."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
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
    choices: list[ChatChoice]
    usage: UsageBody | None = None


class MessageDelta(BaseModel):
    """What a chunk adds to the assistant's message; fields that add nothing are left out."""

    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer(mode="wrap")
    def _leave_out_nulls(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        return {name: value for name, value in fields.items() if value is not None}


class ChunkChoice(BaseModel):
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
    choices: list[ChunkChoice]
    usage: UsageBody | None = None


@router.post(
    "/v1/chat/completions",
    response_model=ChatCompletion,
    responses=STREAMED,
    summary="Answer a conversation",
)
async def create_chat_completion(body: ChatBody, request: Request) -> Any:
    """Answer the last message; at once, or as server-sent events with `stream`."""
    return await generate(request, OPENAI, body, ChatJob.parse)


class ChatJob:
    """The `n` generations of one conversation."""

    def __init__(
        self,
        body: ChatBody,
        backend: Backend,
        prompt: Sequence[int],
        constraint: Callable[[], TokenConstraint] | None,
    ) -> None:
        self._body = body
        self._pieces = backend.pieces
        self._identity = new_identity("chatcmpl", backend.info.name)
        self.requests = [
            body.request(
                prompt,
                choice,
                max_tokens=body.token_limit,
                logprobs=(body.top_logprobs or 0) if body.logprobs else None,
                constraint=constraint,
            )
            for choice in range(body.n)
        ]

    @classmethod
    async def parse(cls, body: ChatBody, backend: Backend) -> "ChatJob":
        """Render and tokenise the conversation.

        Raises:
            InvalidRequestError: the model has no chat template, it refuses these messages, or what
                the answer is to look like cannot be kept to.
        """
        constraint = await body.constraint(backend)
        messages = [message.for_template() for message in body.messages]
        return cls(body, backend, await backend.chat_tokens(messages), constraint)

    def answer(self, generated: Sequence[Generated]) -> ChatCompletion:
        """See Job."""
        return ChatCompletion(
            **self._identity,
            choices=[
                ChatChoice(
                    index=index,
                    message=AnswerMessage(content=each.text),
                    logprobs=self._logprobs(each.logprobs),
                    finish_reason=finish_reason(each),
                )
                for index, each in enumerate(generated)
            ],
            usage=total_usage([each.usage for each in generated if each.usage], self._body.n),
        )

    async def frames(self, events: AsyncIterator[tuple[int, Event]]) -> AsyncIterator[bytes]:
        """See Job."""
        for index in range(self._body.n):
            yield self._frame(
                ChunkChoice(index=index, delta=MessageDelta(role="assistant", content=""))
            )
        usages: dict[int, Usage] = {}
        async for index, event in events:
            match event:
                case Delta(text=text, logprobs=entries):
                    delta = MessageDelta(content=text)
                    logprobs = self._logprobs(entries)
                    yield self._frame(ChunkChoice(index=index, delta=delta, logprobs=logprobs))
                case Finished(reason=reason, usage=usage):
                    usages[index] = usage
                    end = ChunkChoice(
                        index=index, delta=MessageDelta(), finish_reason=REASONS[reason]
                    )
                    yield self._frame(end)
        if self._body.include_usage:
            total = total_usage([usages[index] for index in sorted(usages)], self._body.n)
            yield self._frame(usage=total)
        yield DONE

    def _frame(self, *choices: ChunkChoice, usage: UsageBody | None = None) -> bytes:
        chunk = ChatChunk(**self._identity, choices=list(choices))
        if self._body.include_usage:
            chunk.usage = usage  # set, so that it is sent, be it to null
        return frame(chunk.model_dump_json())

    def _logprobs(self, entries: Sequence[TokenLogprob]) -> ChatLogprobs | None:
        return chat_logprobs(self._pieces, entries) if self._body.logprobs else None
