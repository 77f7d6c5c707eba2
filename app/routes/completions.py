"""POST /v1/completions: continue prompts."""

from collections.abc import AsyncIterator, Sequence

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.answers import Answer, Identity, gather, total_usage
from app.generations import Generations
from app.logprobs import completion_logprobs
from app.schemas.completions import Completion, CompletionBody, CompletionChoice, CompletionLogprobs
from app.state import Served, State, check_model_name
from app.streaming import GenerationStream, while_connected
from medusa.engine.requests import (
    Delta,
    Finished,
    GenerationRequest,
    PromptScored,
    TokenLogprob,
    Usage,
)
from medusa.llama.model import Model

router = APIRouter()


@router.post("/v1/completions", response_model=Completion, summary="Continue one or more prompts")
async def create_completion(
    body: CompletionBody, request: Request, state: State, served: Served
) -> Response | Completion:
    """Continue prompts; the answers come at once, or as server-sent events with `stream`."""
    check_model_name(served, body.model)
    job = _Job(body, served.model)
    identity = Identity.new("cmpl", served.name)
    generations = Generations(served.engine, state.metrics, job.requests)
    if body.stream:
        return GenerationStream(generations, _chunks(job, generations, identity))
    return await while_connected(request, generations, _answer(job, generations, identity))


class _Job:
    """The generations that one body asks for: `per_prompt` in a row for each of its prompts."""

    def __init__(self, body: CompletionBody, model: Model) -> None:
        self.body = body
        self.per_prompt = body.best_of or body.n
        self._model = model
        self._prompts = [_tokens(model, prompt) for prompt in body.prompts]
        self.requests = [
            self._request(prompt, choice)
            for prompt in self._prompts
            for choice in range(self.per_prompt)
        ]

    def echo(self, index: int) -> str:
        """The prompt of a generation as text, where the body asks for it back."""
        return self._model.detokenize(self._prompt_of(index)) if self.body.echo else ""

    def prompt_logprobs(
        self, index: int, entries: Sequence[TokenLogprob | None]
    ) -> CompletionLogprobs:
        """Log probabilities of a generation's prompt."""
        return completion_logprobs(
            self._model, self._prompt_of(index), entries, 0, bool(self.body.logprobs)
        )

    def logprobs(self, entries: Sequence[TokenLogprob], offset: int) -> CompletionLogprobs | None:
        """Log probabilities of generated tokens, if asked for."""
        if self.body.logprobs is None:
            return None
        tokens = [entry.token for entry in entries]
        return completion_logprobs(self._model, tokens, entries, offset, bool(self.body.logprobs))

    def _prompt_of(self, index: int) -> list[int]:
        return self._prompts[index // self.per_prompt]

    def _request(self, prompt: list[int], choice: int) -> GenerationRequest:
        body = self.body
        ranked = self.per_prompt > body.n  # best_of chooses by log probability
        return GenerationRequest(
            prompt=tuple(prompt),
            sampling=body.sampling(choice),
            max_tokens=body.max_tokens,
            stop=tuple(body.stop or ()),
            ignore_eos=body.ignore_eos,
            logprobs=0 if ranked and body.logprobs is None else body.logprobs,
            prompt_logprobs=body.logprobs if body.echo else None,
        )


def _tokens(model: Model, prompt: str | list[int]) -> list[int]:
    if isinstance(prompt, list):
        return prompt
    tokens = model.tokenize(prompt, parse_special=True)
    if not tokens and model.bos_token >= 0:
        return [model.bos_token]
    return tokens


async def _answer(job: _Job, generations: Generations, identity: Identity) -> Completion:
    answers = await gather(generations, len(job.requests))
    usage = total_usage([a.usage for a in answers if a.usage], job.per_prompt)
    chosen: list[tuple[int, Answer]] = []
    for start in range(0, len(answers), job.per_prompt):
        candidates = list(enumerate(answers))[start : start + job.per_prompt]
        if job.per_prompt > job.body.n:
            candidates.sort(key=lambda item: -item[1].mean_logprob)
        chosen.extend(candidates[: job.body.n])
    return Completion(
        id=identity.id,
        created=identity.created,
        model=identity.model,
        choices=[
            _choice(job, place, index, answer) for place, (index, answer) in enumerate(chosen)
        ],
        usage=usage,
    )


def _choice(job: _Job, place: int, index: int, answer: Answer) -> CompletionChoice:
    echo = job.echo(index)
    logprobs = job.logprobs(answer.logprobs, len(echo))
    if logprobs is not None and answer.prompt_logprobs:
        logprobs = job.prompt_logprobs(index, answer.prompt_logprobs) + logprobs
    return CompletionChoice(
        text=echo + answer.text,
        index=place,
        logprobs=logprobs,
        finish_reason=answer.reason.value if answer.reason else None,
    )


async def _chunks(
    job: _Job, generations: Generations, identity: Identity
) -> AsyncIterator[Completion]:
    def chunk(choices: list[CompletionChoice]) -> Completion:
        made = Completion(
            id=identity.id, created=identity.created, model=identity.model, choices=choices
        )
        if job.body.include_usage:
            made.usage = None  # set, so that it is sent
        return made

    usages: dict[int, Usage] = {}
    offsets = [0] * len(job.requests)
    if job.body.echo:
        for index in range(len(job.requests)):
            echo = job.echo(index)
            offsets[index] = len(echo)
            yield chunk([CompletionChoice(text=echo, index=index)])
    async for index, event in generations.events():
        match event:
            case PromptScored(logprobs=entries):
                scores = job.prompt_logprobs(index, entries)
                yield chunk([CompletionChoice(text="", index=index, logprobs=scores)])
            case Delta(text=text, logprobs=entries):
                scored = job.logprobs(entries, offsets[index])
                offsets[index] += sum(map(len, scored.tokens)) if scored else 0
                yield chunk([CompletionChoice(text=text, index=index, logprobs=scored)])
            case Finished(reason=reason, usage=usage):
                usages[index] = usage
                yield chunk([CompletionChoice(text="", index=index, finish_reason=reason.value)])
    if job.body.include_usage:
        last = chunk([])
        last.usage = total_usage([usages[i] for i in sorted(usages)], job.per_prompt)
        yield last
