"""POST /v1/completions: continue prompts."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from fastapi import Request
from pydantic import BaseModel, Field, field_validator, model_validator

from app.backend import Backend
from app.dialects.dialect import generate
from app.dialects.openai.common import (
    MAX_CHOICES,
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
from app.dialects.openai.logprobs import (
    CompletionLogprobs,
    TextOffsets,
    completion_logprobs,
    prompt_parts,
)
from app.sse import frame
from medusa.engine.client import Generated
from medusa.engine.events import Delta, Event, Finished, PromptScored, TokenLogprob, Usage
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.params import SamplingParams

router = OPENAI.router()

TokenIds = Annotated[list[int], Field(min_length=1)]
Texts = Annotated[list[str], Field(min_length=1)]
TokenLists = Annotated[list[TokenIds], Field(min_length=1)]
Prompt = str | TokenIds | Texts | TokenLists


class CompletionBody(GenerationBody):
    """A request to continue one or several prompts."""

    prompt: Prompt = Field(description="Text, token ids, or a list of either.")
    max_tokens: int | None = Field(16, ge=0)
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    best_of: int | None = Field(None, ge=1, le=MAX_CHOICES)
    suffix: None = Field(None, description="Not supported.")

    @field_validator("prompt", mode="plain", json_schema_input_type=Prompt)
    @classmethod
    def _prompt_kinds(cls, value: Any) -> Any:
        """Check by types alone; a union's errors would be one for each item and each kind."""
        if isinstance(value, str) or _is_list_of(value, str) or _is_list_of(value, int):
            return value
        if _is_list_of(value, list) and all(_is_list_of(each, int) for each in value):
            return value
        raise ValueError(
            "must be a string, a list of strings, a list of token ids, "
            "or a list of token-id lists, none of them an empty list"
        )

    @field_validator("suffix", mode="before")
    @classmethod
    def _no_suffix(cls, value: object) -> None:
        if value is not None:
            raise ValueError("filling in before a suffix is not supported")

    @model_validator(mode="after")
    def _choices_are_consistent(self) -> Self:
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError("best_of must be at least n")
        if self.stream and self.best_of is not None and self.best_of > self.n:
            raise ValueError("best_of above n cannot be streamed")
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens 0 needs echo to be true")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, one or several, in the order given."""
        prompt: Any = self.prompt
        if isinstance(prompt, str) or isinstance(prompt[0], int):
            return [prompt]
        return list(prompt)

    @property
    def per_prompt(self) -> int:
        """Generations of each prompt."""
        return self.best_of or self.n

    @property
    def count(self) -> int:
        """Generations it asks for."""
        return len(self.prompts) * self.per_prompt

    @property
    def is_ranked(self) -> bool:
        """Whether the likeliest of the generations are chosen."""
        return self.per_prompt > self.n


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and set(map(type, value)) == {kind}


class CompletionChoice(BaseModel):
    """One answer, or in a stream what was added to it."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None = None
    finish_reason: Reason | None = None


class Completion(UsageIfSet):
    """The response, whole or as a chunk."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageBody | None = None


@router.post(
    "/v1/completions",
    response_model=Completion,
    responses=STREAMED,
    summary="Continue one or more prompts",
)
async def create_completion(body: CompletionBody, request: Request) -> Any:
    """Continue prompts; the answers come at once, or as server-sent events with `stream`."""
    return await generate(request, OPENAI, body, CompletionJob.parse)


@dataclass(frozen=True)
class PromptText:
    """A prompt to continue."""

    tokens: Sequence[int]
    text: bytes


class CompletionJob:
    """The generations that one body asks for: `per_prompt` in a row for each of its prompts."""

    def __init__(
        self,
        body: CompletionBody,
        backend: Backend,
        prompts: Sequence[PromptText],
        sampling: SamplingParams,
        prediction: tuple[int, ...],
        constraint: Callable[[], TokenConstraint] | None,
    ) -> None:
        self._body = body
        self._prompts = prompts
        self._pieces = backend.pieces
        self._hidden = backend.control_tokens
        self._identity = new_identity("cmpl", backend.info.name)
        needs_logprobs = body.is_ranked and body.logprobs is None
        self.requests = [
            body.request(
                prompt.tokens,
                choice,
                sampling=sampling,
                prediction=prediction,
                max_tokens=body.max_tokens,
                logprobs=0 if needs_logprobs else body.logprobs,
                prompt_logprobs=body.logprobs if body.echo else None,
                constraint=constraint,
            )
            for prompt in prompts
            for choice in range(body.per_prompt)
        ]

    @classmethod
    async def parse(cls, body: CompletionBody, backend: Backend) -> "CompletionJob":
        """Tokenise the prompts.

        Raises:
            InvalidRequestError: one is too long, or what the answers are to look like cannot be
                kept to.
        """
        constraint = await body.constraint(backend)
        texts = [prompt for prompt in body.prompts if isinstance(prompt, str)]
        tokens = iter(await backend.prompt_tokens(texts))
        prompts = [
            PromptText(p, backend.prompt_text(p) if body.echo else b"")
            if isinstance(p, list)
            else PromptText(next(tokens), p.encode("utf-8", "surrogatepass"))
            for p in body.prompts
        ]
        sampling, prediction = await body.sampling(backend), await body.predicted(backend)
        return cls(body, backend, prompts, sampling, prediction, constraint)

    def answer(self, generated: Sequence[Generated]) -> Completion:
        """See Job."""
        body = self._body
        chosen: list[tuple[int, Generated]] = []
        for start in range(0, len(generated), body.per_prompt):
            candidates = list(enumerate(generated))[start : start + body.per_prompt]
            if body.is_ranked:
                candidates.sort(key=lambda item: mean_logprob(item[1]), reverse=True)
            chosen.extend(candidates[: body.n])
        return Completion(
            **self._identity,
            choices=[
                self._choice(place, index, each) for place, (index, each) in enumerate(chosen)
            ],
            usage=total_usage([each.usage for each in generated if each.usage], body.per_prompt),
        )

    async def frames(self, events: AsyncIterator[tuple[int, Event]]) -> AsyncIterator[bytes]:
        """See Job."""
        usages: dict[int, Usage] = {}
        echoes = [self._echo(index) for index in range(len(self.requests))]
        offsets = [TextOffsets(len(echo)) for echo in echoes]
        if self._body.echo:
            for index, echo in enumerate(echoes):
                yield self._frame(CompletionChoice(text=echo, index=index))
        async for index, event in events:
            match event:
                case PromptScored(logprobs=entries):
                    yield await asyncio.to_thread(self._scored_frame, index, entries)
                case Delta(text=text, logprobs=entries):
                    scored = self._logprobs(entries, offsets[index])
                    yield self._frame(CompletionChoice(text=text, index=index, logprobs=scored))
                case Finished(reason=reason, usage=usage):
                    usages[index] = usage
                    end = CompletionChoice(text="", index=index, finish_reason=REASONS[reason])
                    yield self._frame(end)
        if self._body.include_usage:
            parts = [usages[index] for index in sorted(usages)]
            yield self._frame(usage=total_usage(parts, self._body.per_prompt))
        yield DONE

    def _frame(self, *choices: CompletionChoice, usage: UsageBody | None = None) -> bytes:
        chunk = Completion(**self._identity, choices=list(choices))
        if self._body.include_usage:
            chunk.usage = usage  # set, so that it is sent, be it to null
        return frame(chunk.model_dump_json())

    def _scored_frame(self, index: int, entries: Sequence[TokenLogprob | None]) -> bytes:
        """A chunk with the whole prompt's log probabilities, which takes its time."""
        scores = self._prompt_logprobs(index, entries)
        return self._frame(CompletionChoice(text="", index=index, logprobs=scores))

    def _choice(self, place: int, index: int, generated: Generated) -> CompletionChoice:
        echo = self._echo(index)
        logprobs = self._logprobs(generated.logprobs, TextOffsets(len(echo)))
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


def mean_logprob(generated: Generated) -> float:
    """Mean log probability of the generated tokens, the end token's included, by which best_of
    chooses. Nothing at all is the least likely answer."""
    values = [entry.logprob for entry in generated.logprobs]
    if generated.end_logprob is not None:
        values.append(generated.end_logprob)
    return sum(values) / len(values) if values else -math.inf
