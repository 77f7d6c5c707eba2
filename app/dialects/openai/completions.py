"""POST /v1/completions: continue prompts."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, Self, TypedDict

from fastapi import Request
from pydantic import BaseModel, Field, model_validator

from app.backend import Backend
from app.dialects.dialect import generate
from app.dialects.limited import Choices, Text, TopLogprobs
from app.dialects.openai.chunks import Chunks
from app.dialects.openai.common import (
    REASONS,
    GenerationBody,
    Reason,
    finish_reason,
    new_identity,
    token_limit,
)
from app.dialects.openai.errors import DONE, OPENAI, STREAMED
from app.dialects.openai.fim import Gap, fim_prompt, fim_tokens
from app.dialects.openai.logprobs import (
    CompletionLogprobs,
    TextOffsets,
    completion_logprobs,
    prompt_parts,
)
from app.dialects.openai.prompts import Prompts, PromptText, read_prompts
from app.dialects.openai.timings import Progress, Timings
from app.dialects.openai.usage import FINGERPRINT, UsageBody, WithTimings, total_usage
from medusa.engine.client import Generated
from medusa.engine.events import (
    Delta,
    Event,
    Finished,
    PromptProgress,
    PromptScored,
    TokenLogprob,
    Usage,
)
from medusa.engine.requests import GenerationRequest
from medusa.errors import InvalidRequestError

router = OPENAI.router()


class CompletionBody(GenerationBody):
    """A request to continue one or several prompts."""

    prompt: Prompts = Field(description="Text, token ids, or a list of either, or of both.")
    max_tokens: int | None = Field(16, description="-1: up to the context limit.")
    echo: bool = False
    logprobs: TopLogprobs | None = None
    best_of: Choices | None = None
    suffix: Text = Field("", description="What is to come after the answer; for models with FIM.")

    @model_validator(mode="after")
    def _choices_are_consistent(self) -> Self:
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError("best_of must be at least n")
        if self.stream and self.best_of is not None and self.best_of > self.n:
            raise ValueError("best_of above n cannot be streamed")
        return self

    @property
    def per_prompt(self) -> int:
        """Generations of each prompt."""
        return self.best_of or self.n

    @property
    def count(self) -> int:
        """Generations it asks for."""
        return len(self.prompt) * self.per_prompt

    @property
    def is_ranked(self) -> bool:
        """Whether the likeliest of the generations are chosen."""
        return self.per_prompt > self.n


class CompletionChoice(BaseModel):
    """One answer."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None = None
    finish_reason: Reason


class Completion(WithTimings):
    """The whole response."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str = FINGERPRINT
    choices: list[CompletionChoice]
    usage: UsageBody


class ChunkChoice(TypedDict):
    """What a chunk adds to an answer."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None
    finish_reason: Reason | None


def _chunk_choice(
    index: int,
    text: str = "",
    logprobs: CompletionLogprobs | None = None,
    finish_reason: Reason | None = None,
) -> ChunkChoice:
    return ChunkChoice(text=text, index=index, logprobs=logprobs, finish_reason=finish_reason)


@router.post(
    "/v1/completions",
    response_model=Completion,
    responses=STREAMED,
    summary="Continue one or more prompts",
)
async def create_completion(body: CompletionBody, request: Request) -> Any:
    """Continue prompts; the answers come at once, or as server-sent events with `stream`."""
    return await generate(request, OPENAI, body, CompletionJob.parse)


class CompletionJob:
    """The generations that one body asks for: `per_prompt` in a row for each of its prompts."""

    def __init__(
        self,
        body: CompletionBody,
        backend: Backend,
        prompts: Sequence[PromptText],
        requests: Sequence[GenerationRequest],
    ) -> None:
        self.requests = requests
        self._body = body
        self._prompts = prompts
        self._pieces = backend.pieces
        self._hidden = backend.control_tokens
        self._identity = new_identity("cmpl", backend.info.name)
        self._chunks = Chunks("text_completion", self._identity, with_usage=body.include_usage)

    @classmethod
    async def parse(cls, body: CompletionBody, backend: Backend) -> "CompletionJob":
        """Tokenise the prompts.

        Raises:
            InvalidRequestError: one is too long, or what the answers are to look like cannot be
                kept to.
        """
        constraint = await body.constraint(backend)
        prompts = await _prompts(body, backend)
        needs_logprobs = body.is_ranked and body.logprobs is None
        requests = await body.requests(
            backend,
            [prompt.tokens for prompt in prompts],
            body.per_prompt,
            constraint=constraint,
            max_tokens=token_limit(body.max_tokens),
            logprobs=0 if needs_logprobs else body.logprobs,
            prompt_logprobs=body.logprobs if body.echo else None,
        )
        return cls(body, backend, prompts, requests)

    def answer(self, generated: Sequence[Generated]) -> Completion:
        """See Job."""
        body = self._body
        chosen: list[tuple[int, Generated]] = []
        for start in range(0, len(generated), body.per_prompt):
            candidates = list(enumerate(generated))[start : start + body.per_prompt]
            if body.is_ranked:
                candidates.sort(key=lambda item: mean_logprob(item[1]), reverse=True)
            chosen.extend(candidates[: body.n])
        usages = [each.usage for each in generated if each.usage]
        return Completion(
            **self._identity,
            choices=[
                self._choice(place, index, each) for place, (index, each) in enumerate(chosen)
            ],
            usage=total_usage(usages, body.per_prompt),
            timings=Timings.of(usages) if len(self._prompts) == 1 else None,
        )

    async def frames(self, events: AsyncIterator[tuple[int, Event]]) -> AsyncIterator[bytes]:
        """See Job."""
        frame = self._chunks.frame
        usages: dict[int, Usage] = {}
        echoes = [self._echo(index) for index in range(len(self.requests))]
        offsets = [TextOffsets(len(echo)) for echo in echoes]
        if self._body.echo:
            for index, echo in enumerate(echoes):
                yield frame(_chunk_choice(index, echo))
        async for index, event in events:
            match event:
                case PromptProgress():
                    spent = self._body.spent_so_far(event)
                    yield frame(_chunk_choice(index), spent=spent, progress=Progress.of(event))
                case PromptScored(logprobs=entries):
                    yield await asyncio.to_thread(self._scored_frame, index, entries)
                case Delta(text=text, logprobs=entries):
                    choice = _chunk_choice(index, text, self._logprobs(entries, offsets[index]))
                    yield frame(choice, spent=self._body.spent_so_far(event))
                case Finished(reason=reason, usage=usage, end_logprob=entry):
                    usages[index] = usage
                    scored = None
                    if entry is not None:
                        scored = self._logprobs([entry], offsets[index])
                    yield frame(_chunk_choice(index, "", scored, REASONS[reason]), spent=usage)
        if self._body.include_usage:
            parts = [usages[index] for index in sorted(usages)]
            yield frame(usage=total_usage(parts, self._body.per_prompt))
        yield DONE

    def _scored_frame(self, index: int, entries: Sequence[TokenLogprob | None]) -> bytes:
        """A chunk with the whole prompt's log probabilities, which takes its time."""
        scores = self._prompt_logprobs(index, entries)
        return self._chunks.frame(_chunk_choice(index, "", scores))

    def _choice(self, place: int, index: int, generated: Generated) -> CompletionChoice:
        echo = self._echo(index)
        end = [] if generated.end_logprob is None else [generated.end_logprob]
        logprobs = self._logprobs([*generated.logprobs, *end], TextOffsets(len(echo)))
        if logprobs is not None and generated.prompt_logprobs:
            logprobs = self._prompt_logprobs(index, generated.prompt_logprobs) + logprobs
        return CompletionChoice(
            text=echo + generated.text,
            index=place,
            logprobs=logprobs,
            finish_reason=finish_reason(generated),
        )

    def _prompt_of(self, index: int) -> PromptText:
        return self._prompts[index // self._body.per_prompt]

    def _echo(self, index: int) -> str:
        return self._prompt_of(index).text.decode("utf-8", "replace") if self._body.echo else ""

    def _prompt_logprobs(
        self, index: int, entries: Sequence[TokenLogprob | None]
    ) -> CompletionLogprobs:
        prompt, with_top = self._prompt_of(index), bool(self._body.logprobs)
        parts = prompt_parts(self._pieces, prompt.tokens, prompt.text)
        offsets = TextOffsets().of(parts)
        return completion_logprobs(self._pieces, prompt.tokens, entries, offsets, with_top)

    def _logprobs(
        self, entries: Sequence[TokenLogprob], offsets: TextOffsets
    ) -> CompletionLogprobs | None:
        if self._body.logprobs is None:
            return None
        tokens, with_top = [entry.token for entry in entries], bool(self._body.logprobs)
        starts = offsets.of(b"" if t in self._hidden else self._pieces[t] for t in tokens)
        return completion_logprobs(self._pieces, tokens, entries, starts, with_top)


async def _prompts(body: CompletionBody, backend: Backend) -> list[PromptText]:
    if not body.suffix:
        return await read_prompts(body.prompt, backend)
    fim_tokens(backend)
    if not all(isinstance(prompt, str) for prompt in body.prompt):
        raise InvalidRequestError("a prompt with a suffix must be a text", field="prompt")
    gaps = [Gap(str(prompt), body.suffix) for prompt in body.prompt]
    return [await fim_prompt(gap, backend) for gap in gaps]


def mean_logprob(generated: Generated) -> float:
    """Mean log probability of the generated tokens, the end token's included, by which best_of
    chooses. Nothing at all is the least likely answer."""
    values = [entry.logprob for entry in generated.logprobs]
    if generated.end_logprob is not None:
        values.append(generated.end_logprob.logprob)
    return sum(values) / len(values) if values else -math.inf
