"""What completions and chat completions share: fields, and the words for how it ended."""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    field_validator,
)

from app.backend import Backend
from app.dialects.fields import Fields, Matters, Prioritised
from app.dialects.limited import AtMost, Choices, Phrase
from app.dialects.openai.formats import FormatFields
from app.dialects.openai.lora import LoraFields
from app.dialects.openai.prediction import PredictionFields
from app.dialects.openai.sampling_fields import SamplingFields
from app.dialects.openai.unsupported import UNSUPPORTED, WITHOUT_EFFECT
from medusa.engine.client import Generated
from medusa.engine.events import Delta, FinishReason, PromptProgress, Usage
from medusa.engine.requests import GenerationRequest
from medusa.errors import InvalidRequestError
from medusa.sampling.constraints import TokenConstraint

Reason = Literal["stop", "length", "tool_calls"]
REASONS: Mapping[FinishReason, Reason] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
}


def finish_reason(generated: Generated) -> Reason:
    """Why a generation ended, in OpenAI's words."""
    assert generated.reason is not None, "it has not ended"
    return REASONS[generated.reason]


def new_identity(prefix: str, model: str) -> dict[str, Any]:
    """What all chunks of a response have in common; its id begins with the prefix."""
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}


def token_limit(asked: int | None) -> int | None:
    """Most tokens to generate. None and numbers below 0 mean up to the context limit, None."""
    return asked if asked is not None and asked >= 0 else None


class StreamOptions(Fields):
    """Options of a streamed answer; without a stream they do not matter."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"include_obfuscation"})

    include_usage: bool = Field(False, description="Send a last chunk that holds the usage.")


class GenerationBody(
    Fields, SamplingFields, PredictionFields, FormatFields, LoraFields, Prioritised
):
    """What every generating endpoint takes."""

    field_names: ClassVar[Mapping[str, str]] = {"adapters": "lora"}
    other_names: ClassVar[Mapping[str, str]] = {"n_cmpl": "n", "n_predict": "max_tokens"}
    without_effect: ClassVar[frozenset[str]] = WITHOUT_EFFECT
    unsupported: ClassVar[Mapping[str, Matters]] = UNSUPPORTED

    model: str = Field("default", description="The served model's name, or `default`.")
    n: Choices = 1
    stop: Annotated[list[Phrase], AtMost("max_stops")] = []
    stream: bool = False
    stream_options: StreamOptions | None = None
    return_progress: bool = Field(False, description="Tell in a stream how a prompt is read.")
    verbose: bool = Field(False, description="Also answer in llama-server's own format.")
    timings_per_token: bool = Field(False, description="Tell in each chunk what it took so far.")
    t_max_predict_ms: int = Field(
        0, description="Longest time in ms from the first token on, once a line has ended; 0: any."
    )

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    def ends_itself(self, field: str) -> None:
        """Make sure that answers which a field gives an end may end.

        Raises:
            InvalidRequestError: they are to go on.
        """
        for name in ("ignore_eos", "min_tokens"):
            if getattr(self, name):
                raise InvalidRequestError(f"{field} and {name} contradict each other", field=field)

    async def constraint(self, backend: Backend) -> Callable[[], TokenConstraint] | None:
        """What its answers must look like, ready to be kept to.

        Raises:
            InvalidRequestError: the grammar is wrong, not supported or too complex, or it is to go
                on after its end.
        """
        found = self.grammar_spec()
        if found is None:
            return None
        field, spec = found
        self.ends_itself(field)
        try:
            return await backend.constraint(spec)
        except InvalidRequestError as error:
            error.field = field
            raise

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage

    def spent_so_far(self, event: Delta | PromptProgress) -> Usage | None:
        """What an answer took up to an event, if that is to be told."""
        return event.usage if self.timings_per_token else None

    async def requests(
        self,
        backend: Backend,
        prompts: Iterable[Sequence[int]],
        n: int,
        *,
        constraint: Callable[[], TokenConstraint] | None,
        max_tokens: int | None,
        **fields: Any,
    ) -> list[GenerationRequest]:
        """What the backend is to run: `n` in a row for each prompt, with seeds of their own.

        Args:
            backend: knows the tokens.
            prompts: token ids.
            n: generations of each.
            constraint: what the answers must look like.
            max_tokens: most tokens of each, where there is a limit.
            fields: further ones of GenerationRequest.

        Raises:
            InvalidRequestError: a text is too long.
        """
        sampling, prediction = await self.sampling(backend), await self.predicted(backend)
        seeds = [None if sampling.seed is None else sampling.seed + choice for choice in range(n)]
        return [
            GenerationRequest(
                prompt=tuple(prompt),
                sampling=replace(sampling, seed=seed),
                max_tokens=max_tokens,
                max_seconds=self.t_max_predict_ms / 1000 if self.t_max_predict_ms > 0 else None,
                stop=tuple(filter(None, self.stop)),
                stop_tokens=frozenset(self.stop_token_ids or ()),
                ignore_eos=bool(self.ignore_eos),
                constraint=constraint,
                return_progress=self.return_progress and self.stream,
                prediction=prediction,
                adapters=self.adapters,
                **fields,
            )
            for prompt in prompts
            for seed in seeds
        ]
