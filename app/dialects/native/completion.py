"""POST /completion: llama-server's own format for continued prompts."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar

from fastapi import Request
from pydantic import Field, RootModel

from app.backend import Backend
from app.dialects.dialect import generate
from app.dialects.fields import Matters
from app.dialects.limited import TopLogprobs
from app.dialects.native.answer import NativeWriter
from app.dialects.openai.common import GenerationBody, token_limit
from app.dialects.openai.errors import OPENAI, STREAMED
from app.dialects.openai.prompts import Prompts, PromptText, read_prompts
from app.dialects.openai.unsupported import UNSUPPORTED
from app.sse import json_frame
from medusa.engine.client import Generated
from medusa.engine.events import Delta, Event, Finished, PromptProgress
from medusa.engine.requests import GenerationRequest

router = OPENAI.router()

_OWN = frozenset({"n_probs", "post_sampling_probs"})
"""What the other formats say in other words, or cannot."""


class NativeFields(GenerationBody):
    """What all requests for llama-server's own format have."""

    unsupported: ClassVar[Mapping[str, Matters]] = {
        name: matters for name, matters in UNSUPPORTED.items() if name not in _OWN
    }

    field_names: ClassVar[Mapping[str, str]] = {
        **GenerationBody.field_names,
        "logprobs": "n_probs",
    }

    max_tokens: int | None = Field(None, description="Also n_predict; -1: to the context limit.")
    n_probs: TopLogprobs = Field(0, description="Likeliest tokens to tell.")
    post_sampling_probs: bool = Field(
        False, description="Tell of n_probs tokens how likely they were to be drawn."
    )
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
        requests: Sequence[GenerationRequest],
    ) -> None:
        self._body = body
        self.requests = requests
        self._writers = [
            NativeWriter(body, index, request, prompts[index // body.n].text, backend)
            for index, request in enumerate(requests)
        ]

    @classmethod
    async def parse(cls, body: NativeBody, backend: Backend) -> "NativeJob":
        """Tokenise the prompts.

        Raises:
            InvalidRequestError: one is too long, or what the answers are to look like cannot be
                kept to.
        """
        return await cls.of(body, backend, await read_prompts(body.prompt, backend))

    @classmethod
    async def of(
        cls, body: NativeFields, backend: Backend, prompts: Sequence[PromptText]
    ) -> "NativeJob":
        """The job of going on with prompts.

        Raises:
            InvalidRequestError: what the answers are to look like cannot be kept to.
        """
        requests = await body.requests(
            backend,
            [prompt.tokens for prompt in prompts],
            body.n,
            constraint=await body.constraint(backend),
            max_tokens=token_limit(body.max_tokens),
            logprobs=body.n_probs or None,
            after_sampling=body.post_sampling_probs,
        )
        return cls(body, backend, prompts, requests)

    def answer(self, generated: Sequence[Generated]) -> NativeAnswer:
        """See Job."""
        answers = [
            self._chosen(writer.whole(each, tokens=self._body.return_tokens))
            for writer, each in zip(self._writers, generated, strict=True)
        ]
        return NativeAnswer(answers if len(answers) > 1 else answers[0])

    async def frames(self, events: AsyncIterator[tuple[int, Event]]) -> AsyncIterator[bytes]:
        """See Job. There is no frame behind the last answer's end."""
        so_far = [Generated() for _ in self.requests]
        async for index, event in events:
            generated, writer = so_far[index], self._writers[index]
            generated.add(event)
            match event:
                case PromptProgress():
                    yield json_frame(writer.progress(event))
                case Delta():
                    yield json_frame(writer.piece(event, len(generated.tokens)))
                case Finished():
                    yield json_frame(self._chosen(writer.end(generated)))

    def _chosen(self, answer: dict[str, Any]) -> dict[str, Any]:
        fields = self._body.response_fields
        return _chosen(answer, fields) if fields else answer


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
