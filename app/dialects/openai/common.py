"""What completions and chat completions share: fields, and the words for how it ended."""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from app.backend import Backend
from app.dialects.openai.formats import FormatFields
from app.dialects.openai.sampling_fields import SamplingFields
from medusa.engine.client import Generated
from medusa.engine.events import FinishReason
from medusa.engine.requests import GenerationRequest
from medusa.errors import InvalidRequestError
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.params import SamplingParams

MAX_LOGPROBS = 20
MAX_CHOICES = 64
MAX_STOPS = 64
MAX_STOP_LENGTH = 1000  # characters

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


class StreamOptions(BaseModel):
    """Options of a streamed answer."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = Field(False, description="Send a last chunk that holds the usage.")


class GenerationBody(SamplingFields, FormatFields):
    """What every generating endpoint takes. Unknown fields are refused, not ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    field_names: ClassVar[Mapping[str, str]] = {}

    model: str = Field("default", description="The served model's name, or `default`.")
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    stop: list[Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]] | None = Field(
        None, max_length=MAX_STOPS
    )
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, description="Accepted for compatibility; not used.")
    metadata: dict[str, Any] | None = Field(None, description="Accepted; not used.")
    store: bool | None = Field(None, description="Accepted; nothing is stored.")
    service_tier: str | None = Field(None, description="Accepted; not used.")

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("n", "stream", mode="wrap")
    @classmethod
    def _null_is_default(cls, value: Any, handler: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].default if value is None else handler(value)

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream to be true")
        return self

    def ends_itself(self, field: str) -> None:
        """Make sure that answers which a field gives an end may end.

        Raises:
            InvalidRequestError: they are to go on.
        """
        if self.ignore_eos:
            raise InvalidRequestError(f"{field} and ignore_eos contradict each other", field=field)

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

    def request(
        self,
        prompt: Sequence[int],
        choice: int,
        *,
        sampling: SamplingParams,
        max_tokens: int | None,
        logprobs: int | None,
        prompt_logprobs: int | None = None,
        constraint: Callable[[], TokenConstraint] | None = None,
        shown: frozenset[int] = frozenset(),
        return_drafts: bool = False,
    ) -> GenerationRequest:
        """What the backend is to run for the choice with this index; each has a seed of its own."""
        return GenerationRequest(
            prompt=tuple(prompt),
            sampling=replace(
                sampling, seed=None if sampling.seed is None else sampling.seed + choice
            ),
            max_tokens=max_tokens,
            stop=tuple(self.stop or ()),
            ignore_eos=bool(self.ignore_eos),
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
            constraint=constraint,
            shown=shown,
            return_drafts=return_drafts,
        )
