"""What callers hand to the engine."""

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

from medusa.engine.fairness import EVERYBODY, Tenant
from medusa.engine.pooling import Pooling
from medusa.llama.adapters import AdapterSet
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.params import SamplingParams


def _new_id() -> str:
    return uuid4().hex


@dataclass(frozen=True)
class GenerationRequest:
    """One sequence to generate. Counts are in tokens.

    max_tokens None means up to the context limit. An answer ends once it has taken max_seconds
    since its first token and a line of it has ended. `stop_tokens` end the text as the model's own
    end tokens do. `logprobs` asks for the log probability of each generated token and that many
    likeliest alternatives, with `after_sampling` among those that it was drawn from,
    `prompt_logprobs` for the same of the prompt under the model. `record_hidden` delivers the
    hidden state each token was sampled from. `constraint` makes what restricts the sampled tokens,
    once, when the request is taken in. `shown` are control tokens that are part of its text all the
    same. `return_drafts` tells who guessed each token, `return_progress` how much of the prompt has
    been read. `adapters` are those that it is computed with, and cached prefixes are good for the
    same ones only; None leaves it to whoever hands it to the engine, and means none to that.
    `pooling` asks for an embedding of the prompt, not for an answer: max_tokens must be 0.
    `prediction` is what the answer is likely to be, which only makes it faster. `tenant` is whose
    tokens it counts as, `priority` which of that tenant's go first: the lowest. `id` names the
    request in its events.
    """

    prompt: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    max_seconds: float | None = None
    stop: tuple[str, ...] = ()
    stop_tokens: frozenset[int] = frozenset()
    ignore_eos: bool = False
    logprobs: int | None = None
    after_sampling: bool = False
    prompt_logprobs: int | None = None
    record_hidden: bool = False
    constraint: Callable[[], TokenConstraint] | None = None
    shown: frozenset[int] = frozenset()
    return_drafts: bool = False
    return_progress: bool = False
    adapters: AdapterSet | None = None
    pooling: Pooling | None = None
    prediction: tuple[int, ...] = ()
    tenant: Tenant = EVERYBODY
    priority: int = 0
    id: str = field(default_factory=_new_id)
