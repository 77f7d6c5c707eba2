"""What callers hand to the engine and what they get back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from medusa.sampling.params import SamplingParams


@dataclass(frozen=True)
class GenerationRequest:
    """One sequence to generate. Counts are in tokens.

    max_tokens None means up to the context limit. `logprobs` asks for the log probability of each
    generated token and that many likeliest alternatives, `prompt_logprobs` for the same of the
    prompt. `record_hidden` delivers the hidden state each token was sampled from.
    """

    prompt: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    record_hidden: bool = False


class FinishReason(StrEnum):
    """Why a generation ended, in OpenAI's words."""

    STOP = "stop"  # the model's end token or a stop string
    LENGTH = "length"  # max_tokens or the context limit


@dataclass(frozen=True)
class TokenLogprob:
    """Log probability (nats) of a token under the model, before any sampling setting."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()  # likeliest tokens and theirs, descending


@dataclass(frozen=True)
class Usage:
    """What a finished generation consumed, in tokens; times in seconds."""

    prompt_tokens: int
    cached_tokens: int  # of the prompt, found in the KV cache
    completion_tokens: int
    accepted_drafts: int
    rejected_drafts: int
    steps: int  # decodes the generation took part in
    queue_seconds: float
    decode_seconds: float  # from the first decode to the last token


@dataclass(frozen=True)
class PromptScored:
    """Log probabilities of the prompt; the first token has none."""

    logprobs: tuple[TokenLogprob | None, ...]


@dataclass(frozen=True)
class Delta:
    """What one step added. Text may lag behind tokens: half characters and stop strings wait."""

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    hidden: np.ndarray | None = None  # [n_tokens, n_embd] float32


@dataclass(frozen=True)
class Finished:
    """The last event of a generation that went well."""

    reason: FinishReason
    usage: Usage


@dataclass(frozen=True)
class Failed:
    """The last event of a generation that an error ended."""

    error: Exception


Event = PromptScored | Delta | Finished | Failed
EventSink = Callable[[Event], None]
"""Called in the engine's thread, so it must be quick and must not block."""
