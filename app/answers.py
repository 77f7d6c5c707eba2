"""Gathering the events of a generation, and the figures that every kind of answer reports."""

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from app.generations import Generations
from app.schemas.common import CompletionTokensDetails, PromptTokensDetails, UsageBody
from medusa.engine.requests import (
    Delta,
    Event,
    Finished,
    FinishReason,
    PromptScored,
    TokenLogprob,
    Usage,
)


@dataclass(frozen=True)
class Identity:
    """What all chunks of one response have in common."""

    id: str
    created: int
    model: str

    @classmethod
    def new(cls, prefix: str, model: str) -> "Identity":
        """A fresh identity, e.g. with prefix "chatcmpl"."""
        return cls(f"{prefix}-{uuid.uuid4().hex}", int(time.time()), model)


@dataclass
class Answer:
    """All that one generation has yielded so far."""

    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: tuple[TokenLogprob | None, ...] = ()
    reason: FinishReason | None = None
    usage: Usage | None = None

    def add(self, event: Event) -> None:
        """Take over an event."""
        match event:
            case PromptScored(logprobs=logprobs):
                self.prompt_logprobs = logprobs
            case Delta():
                self.text += event.text
                self.logprobs.extend(event.logprobs)
            case Finished(reason=reason, usage=usage):
                self.reason, self.usage = reason, usage

    @property
    def mean_logprob(self) -> float:
        """Mean log probability of the generated tokens, by which best_of chooses."""
        values = [entry.logprob for entry in self.logprobs]
        return sum(values) / len(values) if values else 0.0


async def gather(generations: Generations, count: int) -> list[Answer]:
    """Wait for all generations of a request."""
    answers = [Answer() for _ in range(count)]
    async for index, event in generations.events():
        answers[index].add(event)
    return answers


def total_usage(usages: Iterable[Usage], per_prompt: int = 1) -> UsageBody:
    """Sum over the generations of a request.

    Args:
        usages: one for each generation, in order of their prompts.
        per_prompt: generations that share a prompt, which then counts once.
    """
    usages = list(usages)
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
