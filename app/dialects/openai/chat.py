"""POST /v1/chat/completions: answer conversations."""

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self

from fastapi import Request
from pydantic import FailFast, Field, model_validator

from app.backend import Backend
from app.dialects.conversation import Question, ReadQuestion, read, reasoning_variables
from app.dialects.dialect import generate
from app.dialects.openai.answers import Answer, AnswerMessage, MessageDelta
from app.dialects.openai.common import (
    MAX_LOGPROBS,
    GenerationBody,
    Reason,
    new_identity,
)
from app.dialects.openai.drafts import DraftsIfAsked, DraftTexts
from app.dialects.openai.errors import DONE, OPENAI, STREAMED
from app.dialects.openai.logprobs import ChatLogprobs, chat_logprobs
from app.dialects.openai.messages import ChatMessage
from app.dialects.openai.tools import ToolFields
from app.dialects.openai.usage import UsageBody, UsageIfSet, total_usage
from app.sse import frame
from medusa.engine.client import Generated
from medusa.engine.events import Delta, Event, Finished, TokenLogprob, Usage
from medusa.sampling.params import SamplingParams

router = OPENAI.router()


class ChatBody(GenerationBody, ToolFields):
    """A request to answer a conversation."""

    field_names: ClassVar[Mapping[str, str]] = {"prompt": "messages"}

    messages: Annotated[list[ChatMessage], Field(min_length=1), FailFast()]
    max_tokens: int | None = Field(None, ge=1, description="Older name of max_completion_tokens.")
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    reasoning_effort: str | None = Field(None, description="Handed to the chat template.")
    return_drafts: bool = Field(
        False, description="Tell in `drafts` which tokens were guessed, and by whom."
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="Further variables of the chat template, such as enable_thinking."
    )

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

    def question(self) -> Question:
        """What it asks.

        Raises:
            InvalidRequestError: fields contradict each other.
        """
        variables = dict(self.chat_template_kwargs or {})
        variables |= reasoning_variables(self.reasoning_effort)
        content = self.grammar_spec()
        if content is not None:
            self.ends_itself(content[0])
        if self.visible_tools():
            self.ends_itself("tools")
        messages = [message.for_template() for message in self.messages]
        return Question(messages, self, content, variables)


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
        self, body: ChatBody, backend: Backend, question: ReadQuestion, sampling: SamplingParams
    ) -> None:
        self._body = body
        self._pieces = backend.pieces
        self._spelled = partial(question.spelled, backend=backend)
        self._identity = new_identity("chatcmpl", backend.info.name)
        self._answers = [Answer(question.form) for _ in range(body.n)]
        self._drafts = [DraftTexts(backend.pieces) for _ in range(body.n)]
        self.requests = [
            body.request(
                question.prompt.tokens,
                choice,
                sampling=sampling,
                max_tokens=body.token_limit,
                logprobs=(body.top_logprobs or 0) if body.logprobs else None,
                constraint=question.constraint,
                shown=question.prompt.shown,
                return_drafts=body.return_drafts,
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
        question = await read(body.question(), backend)
        return cls(body, backend, question, await body.sampling(backend))

    def answer(self, generated: Sequence[Generated]) -> ChatCompletion:
        """See Job."""
        choices = [
            ChatChoice(
                index=index,
                message=answer.whole(each.text),
                logprobs=self._logprobs(each.logprobs),
                finish_reason=answer.reason(each.reason),
                drafts=self._drafts[index].feed(each.tokens, each.drafts),
            )
            for index, (answer, each) in enumerate(zip(self._answers, generated, strict=True))
        ]
        tokens = [each.tokens for each in generated]
        usage = self._usage([each.usage for each in generated if each.usage], tokens)
        return ChatCompletion(**self._identity, choices=choices, usage=usage)

    async def frames(self, events: AsyncIterator[tuple[int, Event]]) -> AsyncIterator[bytes]:
        """See Job."""
        for index in range(self._body.n):
            yield self._frame(
                ChunkChoice(index=index, delta=MessageDelta(role="assistant", content=""))
            )
        usages: dict[int, Usage] = {}
        written: list[list[int]] = [[] for _ in self._answers]
        async for index, event in events:
            answer = self._answers[index]
            match event:
                case Delta(text=text, tokens=tokens, logprobs=entries):
                    written[index] += tokens
                    choice = ChunkChoice(
                        index=index,
                        delta=answer.feed(text),
                        logprobs=self._logprobs(entries),
                        drafts=self._drafts[index].feed(tokens, event.drafts),
                    )
                    if choice != ChunkChoice(index=index, delta=MessageDelta()):
                        yield self._frame(choice)
                case Finished(reason=reason, usage=usage):
                    usages[index] = usage
                    rest = answer.finish()
                    if rest != MessageDelta():
                        yield self._frame(ChunkChoice(index=index, delta=rest))
                    end = ChunkChoice(
                        index=index, delta=MessageDelta(), finish_reason=answer.reason(reason)
                    )
                    yield self._frame(end)
        if self._body.include_usage:
            yield self._frame(usage=self._usage([usages[i] for i in sorted(usages)], written))
        yield DONE

    def _usage(self, usages: Sequence[Usage], written: Sequence[Sequence[int]]) -> UsageBody:
        """Of all answers, each of which was written in these tokens."""
        answers = zip(self._answers, map(self._spelled, written), strict=True)
        reasoning = sum(answer.reasoning_tokens(pieces) for answer, pieces in answers)
        return total_usage(usages, self._body.n, reasoning)

    def _frame(self, *choices: ChunkChoice, usage: UsageBody | None = None) -> bytes:
        chunk = ChatChunk(**self._identity, choices=list(choices))
        if self._body.include_usage:
            chunk.usage = usage  # set, so that it is sent, be it to null
        return frame(chunk.model_dump_json())

    def _logprobs(self, entries: Sequence[TokenLogprob]) -> ChatLogprobs | None:
        return chat_logprobs(self._pieces, entries) if self._body.logprobs else None
