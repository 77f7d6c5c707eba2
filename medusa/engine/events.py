"""What callers get back: plain data, each naming the request that it belongs to."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class FinishReason(StrEnum):
    """Why a generation ended by itself."""

    STOP = "stop"  # the model's end token or a stop string
    LENGTH = "length"  # max_tokens or the context limit


class FailureKind(StrEnum):
    """Whose fault it was that a generation failed."""

    STOPPED = "stopped"  # the engine was closed
    NOT_NUMBERS = "not_numbers"  # what the model computed is none
    COSTLY_GRAMMAR = "costly_grammar"  # a step under it takes more work than it may
    NOTHING_ALLOWED = "nothing_allowed"  # what the request allows leaves no token
    INTERNAL = "internal"  # an unexpected error, which the log tells in full

    @property
    def blames_request(self) -> bool:
        """Whether the request asked for what cannot be done."""
        return self in (FailureKind.COSTLY_GRAMMAR, FailureKind.NOTHING_ALLOWED)


@dataclass(frozen=True)
class TokenLogprob:
    """Log probability (nats) of a token: under the model, before any sampling setting, or, if that
    was asked for, among the tokens that it was drawn from."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()  # likeliest tokens and theirs, descending


@dataclass(frozen=True)
class Usage:
    """What a generation consumed, in tokens; times in seconds."""

    prompt_tokens: int
    cached_tokens: int  # of the prompt, found in the KV cache
    completion_tokens: int
    accepted_drafts: int
    rejected_drafts: int
    steps: int  # decodes the generation took part in
    queue_seconds: float
    decode_seconds: float  # from the first decode to the last token
    prompt_seconds: float = 0.0  # from the slot to the first token
    generation_seconds: float = 0.0  # from the first token to the last
    predicted: tuple[int, int] | None = None
    """Tokens of the prediction, if there was one, that are in the answer, and that are not."""
    slot: int = -1  # where it ran last


@dataclass(frozen=True)
class PromptProgress:
    """How much of the prompt is in the KV cache by now, if that is to be told."""

    request_id: str
    total: int  # tokens of the prompt
    usage: Usage  # so far: its prompt_tokens are those that have been read


@dataclass(frozen=True)
class PromptScored:
    """Log probabilities of the prompt; the first token has none."""

    request_id: str
    logprobs: tuple[TokenLogprob | None, ...]


@dataclass(frozen=True)
class Embedded:
    """The prompt as a vector: of length 1, or a reranker's scores."""

    request_id: str
    vector: np.ndarray  # [n_embd] or [n_scores] float32


@dataclass(frozen=True)
class Delta:
    """What one step added. Text may lag behind tokens: half characters and stop strings wait."""

    request_id: str
    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    hidden: np.ndarray | None = None  # [n_tokens, n_embd] float32
    drafts: tuple[str | None, ...] = ()  # if asked for: who guessed each token; None: nobody
    usage: Usage | None = None  # so far


@dataclass(frozen=True)
class Finished:
    """The last event of a generation that went well."""

    request_id: str
    reason: FinishReason
    usage: Usage
    end_logprob: TokenLogprob | None = None
    """That of the end token, where one ended the text and `logprobs` was asked for."""
    stop: str | None = None  # the stop string that ended the text, if one did


@dataclass(frozen=True)
class Failed:
    """The last event of a generation that an error ended."""

    request_id: str
    kind: FailureKind
    message: str


Event = PromptProgress | PromptScored | Embedded | Delta | Finished | Failed
EventSink = Callable[[Event], None]
"""Called in the engine's thread, so it must be quick and must not block."""
