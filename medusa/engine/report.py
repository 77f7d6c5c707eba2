"""What one step of the engine did and where its time went."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from medusa.engine.plan import StepResult
from medusa.speculation.drafter import Drafted


@dataclass(frozen=True)
class StepReport:
    """One step's figures. Times in seconds.

    `llama_seconds` and `heads_seconds` are parts of `seconds`; the rest is the engine's own.
    """

    seconds: float = 0.0
    llama_seconds: float = 0.0
    heads_seconds: float = 0.0
    n_decoding: int = 0  # requests in the decode
    batch_tokens: int = 0  # rows of the decode: roots and drafts, and prompts that are scored
    prefilled_tokens: int = 0
    emitted_tokens: int = 0
    restored_prompts: int = 0  # that the prompt cache has helped
    restored_tokens: int = 0  # of these, that need not be computed
    proposed: Mapping[str, int] = field(default_factory=dict)  # drafts, by who guessed them
    accepted: Mapping[str, int] = field(default_factory=dict)
    draft_failures: int = 0  # errors that cost guesses
    failures: int = 0  # 1: the step failed and did nothing

    @classmethod
    def of(cls, result: StepResult, drafted: Drafted, seconds: float) -> Self:
        """The figures of a step that took so long in all."""
        verified, n_scored = result.verified, result.plan.n_scored
        rows = sum(len(v.tree) for v in verified)
        emitted = sum(len(v.path) for v in verified if v.slot not in result.failed)
        return cls(
            seconds=seconds,
            llama_seconds=result.prefill_seconds + result.decode_seconds,
            heads_seconds=drafted.heads_seconds,
            n_decoding=len(verified),
            batch_tokens=rows + n_scored,
            prefilled_tokens=result.plan.n_prefilled,
            emitted_tokens=emitted,
            restored_prompts=len(result.plan.restored),
            restored_tokens=sum(result.plan.restored),
            proposed=Counter(source for v in verified for source in v.tree.sources),
            accepted=Counter(source for v in verified for source in v.sources),
            draft_failures=drafted.failures,
        )

    @property
    def drafts_proposed(self) -> int:
        """Drafts verified."""
        return sum(self.proposed.values())

    @property
    def overhead_seconds(self) -> float:
        """Time spent neither in llama.cpp nor in the heads."""
        return self.seconds - self.llama_seconds - self.heads_seconds


StepObserver = Callable[[StepReport], None]
