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
    token_limit,
)
from app.dialects.openai.drafts import DraftsIfAsked, DraftTexts
from app.dialects.openai.errors import DONE, OPENAI, STREAMED
from app.dialects.openai.logprobs import ChatLogprobs, chat_logprobs
from app.dialects.openai.messages import ChatMessage
from app.dialects.openai.timings import Timings
from app.dialects.openai.tools import ToolFields
from app.dialects.openai.usage import FINGERPRINT, UsageBody, UsageIfSet, total_usage
from app.sse import frame
from medusa.engine.client import Generated
from medusa.engine.events import Delta, Event, Finished, TokenLogprob, Usage
from medusa.errors import InvalidRequestError
from medusa.sampling.params import SamplingParams

router = OPENAI.router()


class ChatBody(GenerationBody, ToolFields):
    """A request to answer a conversation."""

    field_names: ClassVar[Mapping[str, str]] = {
        **GenerationBody.field_names,
        "prompt": "messages",
    }

    messages: Annotated[list[ChatMessage], Field(min_length=1), FailFast()]
    max_tokens: int | None = Field(None, description="Older name of max_completion_tokens.")
    max_completion_tokens: int | None = Field(None, description="-1: up to the context limit.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    reasoning_effort: str | None = Field(None, description="Handed to the chat template.")
    return_drafts: bool = Field(
        False, description="Tell in `drafts` which tokens were guessed, and by whom."
    )
    continue_final_message: bool | None = Field(
        None, description="Go on with the last message; by default if it is the assistant's."
    )
    add_generation_prompt: bool | None = Field(
        None, description="Open a new turn of the assistant's, even after one."
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="Further variables of the chat template, such as enable_thinking."
    )

    @model_validator(mode="after")
    def _top_needs_logprobs(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        return self

    @property
    def count(self) -> int:
        """Generations it asks for."""
        return self.n

    @property
    def token_limit(self) -> int | None:
        """Most tokens to generate; None: up to the context limit."""
        if self.max_completion_tokens is None:
            return token_limit(self.max_tokens)
        return token_limit(self.max_completion_tokens)

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
        if not self._continues():
            asked = self.add_generation_prompt is not False
            return Question(messages, self, content, variables, asked)
        prefill = self.messages[-1].text
        return Question(messages[:-1], self, content, variables, prefill=prefill)

    def _continues(self) -> bool:
        """Whether the answer goes on with the last message.

        Raises:
            InvalidRequestError: it is to, and cannot.
        """
        *before, last = self.messages
        can = bool(before) and last.role == "assistant" and not last.tool_calls
        if self.continue_final_message is None:
            return can and bool(last.text) and not self.add_generation_prompt
        if self.continue_final_message and (self.add_generation_prompt or not can):
            raise InvalidRequestError(
                "needs a last message of the assistant, and no add_generation_prompt",
                field="continue_final_message",
            )
        return self.continue_final_message


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
    timings: Timings | None = None


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
    timings: Timings | None = None


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
        question: ReadQuestion,
        sampling: SamplingParams,
        prediction: tuple[int, ...],
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
                prediction=prediction,
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
        sampling, prediction = await body.sampling(backend), await body.predicted(backend)
        return cls(body, backend, question, sampling, prediction)

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
        usages = [each.usage for each in generated if each.usage]
        return ChatCompletion(
            **self._identity,
            choices=choices,
            usage=self._usage(usages, [each.tokens for each in generated]),
            timings=Timings.of(usages),
        )

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
                        yield self._frame(choice, spent=self._body.spent_so_far(event))
                case Finished(reason=reason, usage=usage):
                    usages[index] = usage
                    rest = answer.finish()
                    if rest != MessageDelta():
                        yield self._frame(ChunkChoice(index=index, delta=rest))
                    end = ChunkChoice(
                        index=index, delta=MessageDelta(), finish_reason=answer.reason(reason)
                    )
                    yield self._frame(end, spent=usage)
        if self._body.include_usage:
            yield self._frame(usage=self._usage([usages[i] for i in sorted(usages)], written))
        yield DONE

    def _usage(self, usages: Sequence[Usage], written: Sequence[Sequence[int]]) -> UsageBody:
        """Of all answers, each of which was written in these tokens."""
        answers = zip(self._answers, map(self._spelled, written), strict=True)
        reasoning = sum(answer.reasoning_tokens(pieces) for answer, pieces in answers)
        return total_usage(usages, self._body.n, reasoning)

    def _frame(
        self, *choices: ChunkChoice, usage: UsageBody | None = None, spent: Usage | None = None
    ) -> bytes:
        timings = None if spent is None else Timings.of([spent])
        chunk = ChatChunk(**self._identity, choices=list(choices), timings=timings)
        if self._body.include_usage:
            chunk.usage = usage  # set, so that it is sent, be it to null
        return frame(chunk.model_dump_json())

    def _logprobs(self, entries: Sequence[TokenLogprob]) -> ChatLogprobs | None:
        return chat_logprobs(self._pieces, entries) if self._body.logprobs else None
