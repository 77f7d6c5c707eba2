"""POST /v1/chat/completions: answer conversations."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self

from fastapi import Request
from pydantic import FailFast, Field, model_validator

from app.backend import Backend
from app.dialects.conversation import Question, ReadQuestion, read, reasoning_variables
from app.dialects.dialect import generate
from app.dialects.limited import TopLogprobs
from app.dialects.native.answer import NativeWriter
from app.dialects.openai.answers import Answer
from app.dialects.openai.chat_format import ChatChoice, ChatCompletion, chunk_choice
from app.dialects.openai.chunks import Chunks
from app.dialects.openai.common import GenerationBody, new_identity, token_limit
from app.dialects.openai.drafts import DraftTexts
from app.dialects.openai.errors import DONE, OPENAI, STREAMED
from app.dialects.openai.logprobs import ChatLogprobs, chat_logprobs
from app.dialects.openai.messages import ChatMessage
from app.dialects.openai.timings import Progress, Timings
from app.dialects.openai.tools import ToolFields
from app.dialects.openai.usage import UsageBody, total_usage
from medusa.engine.client import Generated
from medusa.engine.events import Delta, Event, Finished, PromptProgress, TokenLogprob, Usage
from medusa.engine.requests import GenerationRequest
from medusa.errors import InvalidRequestError
from medusa.text.answers import AnswerForm

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
    top_logprobs: TopLogprobs | None = None
    reasoning_effort: str | None = Field(None, description="Handed to the chat template.")
    reasoning_format: Literal["auto", "deepseek", "none"] = Field(
        "auto", description="none: reasoning stays in the content, with its marks."
    )
    parse_tool_calls: bool = Field(True, description="false: calls stay in the content as text.")
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

    def shown(self, form: AnswerForm) -> AnswerForm:
        """What of an answer's form is told apart from its content."""
        if self.reasoning_format == "none":
            form = replace(form, reasoning=None, in_reasoning=False)
        return form if self.parse_tool_calls else replace(form, calls=None)

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
        requests: Sequence[GenerationRequest],
    ) -> None:
        self.requests = requests
        self._body = body
        self._backend = backend
        self._prompt = question.prompt.text
        self._pieces = backend.pieces
        self._spelled = partial(question.spelled, backend=backend)
        self._identity = new_identity("chatcmpl", backend.info.name)
        self._chunks = Chunks(
            "chat.completion.chunk", self._identity, with_usage=body.include_usage
        )
        self._answers = [
            Answer(body.shown(question.form), body.custom_names) for _ in range(body.n)
        ]
        self._drafts = [DraftTexts(backend.pieces) for _ in range(body.n)]

    @classmethod
    async def parse(cls, body: ChatBody, backend: Backend) -> "ChatJob":
        """Render and tokenise the conversation.

        Raises:
            InvalidRequestError: the model has no chat template, it refuses these messages, or what
                the answer is to look like cannot be kept to.
        """
        question = await read(body.question(), backend)
        requests = await body.requests(
            backend,
            [question.prompt.tokens],
            body.n,
            constraint=question.constraint,
            max_tokens=body.token_limit,
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
            shown=question.prompt.shown,
            return_drafts=body.return_drafts,
        )
        return cls(body, backend, question, requests)

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
            verbose=self._in_native_words(generated[0]) if self._body.verbose else None,
        )

    def _in_native_words(self, generated: Generated) -> dict[str, Any]:
        """The first answer as /completion would have it, the prompt included."""
        prompt = self._prompt.encode()
        writer = NativeWriter(self._body, 0, self.requests[0], prompt, self._backend)
        return writer.whole(generated, tokens=True)

    async def frames(self, events: AsyncIterator[tuple[int, Event]]) -> AsyncIterator[bytes]:
        """See Job."""
        frame = self._chunks.frame
        for index in range(self._body.n):
            yield frame(chunk_choice(index, {"role": "assistant", "content": ""}))
        usages: dict[int, Usage] = {}
        written: list[list[int]] = [[] for _ in self._answers]
        async for index, event in events:
            answer = self._answers[index]
            match event:
                case PromptProgress():
                    spent = self._body.spent_so_far(event)
                    yield frame(chunk_choice(index, {}), spent=spent, progress=Progress.of(event))
                case Delta(text=text, tokens=tokens, logprobs=entries):
                    written[index] += tokens
                    delta, logprobs = answer.feed(text), self._logprobs(entries)
                    drafts = self._drafts[index].feed(tokens, event.drafts)
                    if delta or logprobs is not None or drafts is not None:
                        choice = chunk_choice(index, delta, logprobs=logprobs, drafts=drafts)
                        yield frame(choice, spent=self._body.spent_so_far(event))
                case Finished(reason=reason, usage=usage):
                    usages[index] = usage
                    if rest := answer.finish():
                        yield frame(chunk_choice(index, rest))
                    end = chunk_choice(index, {}, finish_reason=answer.reason(reason))
                    yield frame(end, spent=usage)
        if self._body.include_usage:
            yield frame(usage=self._usage([usages[i] for i in sorted(usages)], written))
        yield DONE

    def _usage(self, usages: Sequence[Usage], written: Sequence[Sequence[int]]) -> UsageBody:
        """Of all answers, each of which was written in these tokens."""
        answers = zip(self._answers, map(self._spelled, written), strict=True)
        reasoning = sum(answer.reasoning_tokens(pieces) for answer, pieces in answers)
        return total_usage(usages, self._body.n, reasoning)

    def _logprobs(self, entries: Sequence[TokenLogprob]) -> ChatLogprobs | None:
        return chat_logprobs(self._pieces, entries) if self._body.logprobs else None
