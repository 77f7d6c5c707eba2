"""POST /completion: llama-server's own format for continued prompts."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from fastapi import Request
from pydantic import Field, RootModel

from app.backend import Backend
from app.dialects.dialect import generate
from app.dialects.fields import Matters
from app.dialects.openai.common import MAX_LOGPROBS, GenerationBody, token_limit
from app.dialects.openai.errors import OPENAI, STREAMED
from app.dialects.openai.logprobs import chat_logprobs
from app.dialects.openai.prompts import Prompts, PromptText, read_prompts
from app.dialects.openai.timings import Timings
from app.dialects.openai.unsupported import UNSUPPORTED
from app.sse import frame
from medusa.engine.client import Generated
from medusa.engine.events import Delta, Event, Finished, FinishReason, TokenLogprob
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.params import SamplingParams

router = OPENAI.router()

_THEIR_NAMES = {"repetition_penalty": "repeat_penalty", "penalty_last_n": "repeat_last_n"}


class NativeFields(GenerationBody):
    """What all requests for llama-server's own format have."""

    unsupported: ClassVar[Mapping[str, Matters]] = {
        name: matters for name, matters in UNSUPPORTED.items() if name != "n_probs"
    }

    max_tokens: int | None = Field(None, description="Also n_predict; -1: to the context limit.")
    n_probs: int = Field(0, ge=0, le=MAX_LOGPROBS, description="Likeliest tokens to tell.")
    return_tokens: bool = False
    response_fields: list[str] = Field([], description="Only these, such as timings/prompt_n.")


class NativeBody(NativeFields):
    """A request to continue one or several prompts."""

    prompt: Prompts = Field(description="Text, token ids, or a list of either, or of both.")

    @property
    def count(self) -> int:
        """Generations it asks for."""
        return len(self.prompt) * self.n


class NativeAnswer(RootModel[Any]):
    """The response: an object, or a list of them if several were asked for."""


@router.post(
    "/completion",
    response_model=NativeAnswer,
    responses=STREAMED,
    summary="Continue prompts, in llama-server's format",
)
async def create_completion(body: NativeBody, request: Request) -> Any:
    """Continue prompts; the answers come at once, or as server-sent events with `stream`."""
    return await generate(request, OPENAI, body, NativeJob.parse)


class NativeJob:
    """The generations that one body asks for: `n` in a row for each of its prompts."""

    def __init__(
        self,
        body: NativeFields,
        backend: Backend,
        prompts: Sequence[PromptText],
        sampling: SamplingParams,
        prediction: tuple[int, ...],
        constraint: Callable[[], TokenConstraint] | None,
    ) -> None:
        self._body = body
        self._prompts = prompts
        self._backend = backend
        self._settings = _settings(body, backend, sampling)
        self.requests = [
            body.request(
                prompt.tokens,
                choice,
                sampling=sampling,
                max_tokens=token_limit(body.max_tokens),
                prediction=prediction,
                logprobs=body.n_probs or None,
                constraint=constraint,
            )
            for prompt in prompts
            for choice in range(body.n)
        ]

    @classmethod
    async def parse(cls, body: NativeBody, backend: Backend) -> "NativeJob":
        """Tokenise the prompts.

        Raises:
            InvalidRequestError: one is too long, or what the answers are to look like cannot be
                kept to.
        """
        constraint = await body.constraint(backend)
        prompts = await read_prompts(body.prompt, backend)
        sampling, prediction = await body.sampling(backend), await body.predicted(backend)
        return cls(body, backend, prompts, sampling, prediction, constraint)

    def answer(self, generated: Sequence[Generated]) -> NativeAnswer:
        """See Job."""
        answers = [
            self._end(index, each, each.text, each.tokens, each.logprobs)
            for index, each in enumerate(generated)
        ]
        return NativeAnswer(answers if len(answers) > 1 else answers[0])

    async def frames(self, events: AsyncIterator[tuple[int, Event]]) -> AsyncIterator[bytes]:
        """See Job. There is no frame behind the last answer's end."""
        so_far = [Generated() for _ in self.requests]
        async for index, event in events:
            generated = so_far[index]
            generated.add(event)
            match event:
                case Delta():
                    yield _frame(self._piece(index, event, len(generated.tokens)))
                case Finished():
                    yield _frame(self._end(index, generated, "", [], []))

    def _piece(self, index: int, delta: Delta, n_generated: int) -> dict[str, Any]:
        usage = self._body.spent_so_far(delta)
        return {
            "index": index,
            "content": delta.text,
            "tokens": list(delta.tokens),
            "stop": False,
            "id_slot": -1,
            "tokens_predicted": n_generated,
            "tokens_evaluated": len(self.requests[index].prompt),
            **({"timings": Timings.of([usage]).model_dump()} if usage else {}),
            **self._probabilities(delta.logprobs),
        }

    def _end(
        self,
        index: int,
        generated: Generated,
        text: str,
        tokens: Sequence[int],
        entries: Sequence[TokenLogprob],
    ) -> dict[str, Any]:
        usage = generated.usage
        assert usage is not None, "it has not ended"
        ended = "eos" if generated.reason is FinishReason.STOP else "limit"
        answer = {
            "index": index,
            "content": text,
            "tokens": list(tokens) if self._body.return_tokens else [],
            "id_slot": -1,
            "stop": True,
            "model": self._backend.info.name,
            "tokens_predicted": usage.completion_tokens,
            "tokens_evaluated": usage.prompt_tokens,
            "generation_settings": self._settings,
            "prompt": self._prompts[index // self._body.n].text.decode("utf-8", "replace"),
            "has_new_line": "\n" in generated.text,
            "truncated": False,
            "stop_type": ended if generated.stop is None else "word",
            "stopping_word": generated.stop or "",
            "tokens_cached": usage.prompt_tokens + usage.completion_tokens,
            "timings": Timings.of([usage]).model_dump(),
            **self._probabilities(entries),
        }
        fields = self._body.response_fields
        return _chosen(answer, fields) if fields else answer

    def _probabilities(self, entries: Sequence[TokenLogprob]) -> dict[str, Any]:
        if not self._body.n_probs or not entries:
            return {}
        shown = chat_logprobs(self._backend.pieces, entries).model_dump()["content"]
        for each, entry in zip(shown, entries, strict=True):
            each["id"] = entry.token
            for top, (token, _) in zip(each["top_logprobs"], entry.top, strict=True):
                top["id"] = token
        return {"completion_probabilities": shown}


def _settings(body: NativeFields, backend: Backend, sampling: SamplingParams) -> dict[str, Any]:
    """How the answer is made, in llama-server's names."""
    chosen = {_THEIR_NAMES.get(name, name): value for name, value in asdict(sampling).items()}
    chosen["logit_bias"] = [list(pair) for pair in sampling.logit_bias.items()]
    limit = token_limit(body.max_tokens)
    return {
        **chosen,
        "n_predict": -1 if limit is None else limit,
        "max_tokens": -1 if limit is None else limit,
        "stop": body.stop,
        "stream": body.stream,
        "lora": [each.model_dump() for each in body.lora],
        "ignore_eos": bool(body.ignore_eos),
        "n_probs": body.n_probs,
        "timings_per_token": body.timings_per_token,
        "n_ctx": backend.info.max_context,
        "model": backend.info.name,
    }


def _chosen(answer: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """What is at paths such as `timings/prompt_n`, by them, but for those that lead nowhere."""
    found = {}
    for path in paths:
        value: Any = answer
        for name in path.split("/"):
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is not None:
            found[path] = value
    return found


def _frame(answer: Mapping[str, Any]) -> bytes:
    return frame(NativeAnswer(answer).model_dump_json())
