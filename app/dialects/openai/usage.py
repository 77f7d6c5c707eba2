"""What an answer consumed, in OpenAI's words."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

from app.dialects.openai.timings import Timings
from medusa.engine.events import Usage

_SENT_AS = {"timings": "timings", "verbose": "__verbose"}
FINGERPRINT = f"llama-medusa-{version('llama-medusa')}"


class PromptTokensDetails(BaseModel):
    """Where the prompt's tokens came from."""

    cached_tokens: int


class CompletionTokensDetails(BaseModel):
    """What answers are made of, and how the prediction fared: its tokens in the answer, and others.

    Without a prediction, how the guesses of heads and lookup did.
    """

    reasoning_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class UsageBody(BaseModel):
    """Token counts of an answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


def total_usage(usages: Sequence[Usage], per_prompt: int, reasoning_tokens: int = 0) -> UsageBody:
    """Sum over the generations of a request.

    Args:
        usages: one for each generation, in order of their prompts.
        per_prompt: generations that share a prompt, which then counts once.
        reasoning_tokens: of all of them.
    """
    prompts = usages[::per_prompt]
    fared = [usage.predicted or (usage.accepted_drafts, usage.rejected_drafts) for usage in usages]
    prompt_tokens = sum(usage.prompt_tokens for usage in prompts)
    completion_tokens = sum(usage.completion_tokens for usage in usages)
    return UsageBody(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        prompt_tokens_details=PromptTokensDetails(
            cached_tokens=sum(usage.cached_tokens for usage in prompts)
        ),
        completion_tokens_details=CompletionTokensDetails(
            reasoning_tokens=reasoning_tokens,
            accepted_prediction_tokens=sum(accepted for accepted, _ in fared),
            rejected_prediction_tokens=sum(rejected for _, rejected in fared),
        ),
    )


class WithTimings(BaseModel):
    """A response with llama-server's fields, which are there where there is something to tell."""

    timings: Timings | None = None
    verbose: dict[str, Any] | None = None

    @model_serializer(mode="wrap")
    def _leave_out_unknown(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        for name, sent_as in _SENT_AS.items():
            if (value := fields.pop(name)) is not None:
                fields[sent_as] = value
        return fields
