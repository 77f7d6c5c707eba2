"""How long an answer took, in llama-server's words; its clients show it."""

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel

from medusa.engine.events import PromptProgress, Usage


class Progress(BaseModel):
    """How much of a prompt has been read, `prompt_progress`."""

    total: int
    cache: int  # of it, found in the KV cache
    processed: int  # of it, in the KV cache by now
    time_ms: int  # since its slot was found

    @classmethod
    def of(cls, event: PromptProgress) -> Self:
        """As the engine tells it."""
        return cls(
            total=event.total,
            cache=event.usage.cached_tokens,
            processed=event.usage.prompt_tokens,
            time_ms=int(1000 * event.usage.prompt_seconds),
        )


class Timings(BaseModel):
    """What an answer took, by the engine's clock: from its slot to its first token, and from there.

    Times are in milliseconds; rates are 0 where no time passed. The first token of an answer is
    what reading the prompt yields: it does not count in `predicted_per_second`.
    """

    cache_n: int  # tokens of the prompt that were in the KV cache
    prompt_n: int  # tokens of the prompt that were computed
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float
    draft_n: int
    draft_n_accepted: int

    @classmethod
    def of(cls, usages: Sequence[Usage]) -> Self:
        """Of generations that ran beside each other and share a prompt."""
        first = usages[0]
        prompt_n = first.prompt_tokens - first.cached_tokens
        prompt_ms = 1000 * first.prompt_seconds if prompt_n else 0.0
        predicted_n = sum(usage.completion_tokens for usage in usages)
        n_steps = sum(max(0, usage.completion_tokens - 1) for usage in usages)
        predicted_ms = 1000 * max(usage.generation_seconds for usage in usages)
        accepted = sum(usage.accepted_drafts for usage in usages)
        return cls(
            cache_n=first.cached_tokens,
            prompt_n=prompt_n,
            prompt_ms=prompt_ms,
            prompt_per_token_ms=prompt_ms / prompt_n if prompt_n else 0.0,
            prompt_per_second=1000 * prompt_n / prompt_ms if prompt_ms else 0.0,
            predicted_n=predicted_n,
            predicted_ms=predicted_ms,
            predicted_per_token_ms=predicted_ms / n_steps if n_steps else 0.0,
            predicted_per_second=1000 * n_steps / predicted_ms if predicted_ms else 0.0,
            draft_n=accepted + sum(usage.rejected_drafts for usage in usages),
            draft_n_accepted=accepted,
        )
