"""What an answer consumed, in OpenAI's words."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

from medusa.engine.events import Usage

FINGERPRINT = f"llama-medusa-{version('llama-medusa')}"


class PromptTokensDetails(BaseModel):
    """Where the prompt's tokens came from."""

    cached_tokens: int


class CompletionTokensDetails(BaseModel):
    """How the Medusa drafts fared, in OpenAI's own fields for predicted outputs."""

    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class UsageBody(BaseModel):
    """Token counts of an answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


def total_usage(usages: Sequence[Usage], per_prompt: int) -> UsageBody:
    """Sum over the generations of a request.

    Args:
        usages: one for each generation, in order of their prompts.
        per_prompt: generations that share a prompt, which then counts once.
    """
    prompts = usages[::per_prompt]
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
            accepted_prediction_tokens=sum(usage.accepted_drafts for usage in usages),
            rejected_prediction_tokens=sum(usage.rejected_drafts for usage in usages),
        ),
    )


class UsageIfSet(BaseModel):
    """A response or chunk whose `usage` is sent only where it was set, be it to null.

    `timings` are where they are known.
    """

    @model_serializer(mode="wrap")
    def _leave_out_unset_usage(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        if fields.get("timings") is None:
            del fields["timings"]
        if "usage" not in self.model_fields_set:
            fields.pop("usage", None)
        return fields
