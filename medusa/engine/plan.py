"""What one step of the engine computes for whom, and what came of it: plain data.

The scheduler makes a plan, the runner turns it into a result, the scheduler settles that.
"""

from dataclasses import dataclass, field

import numpy as np

from medusa.engine.sequence import Sequence
from medusa.engine.slot import Slot
from medusa.llama.adapters import AdapterSet
from medusa.speculation.tree import TokenTree


@dataclass(frozen=True)
class Chunk:
    """A piece of a prompt, from position `start` on."""

    slot: Slot
    start: int
    tokens: list[int]
    scored: bool  # its outputs are wanted: log probabilities, or hidden states to pool
    completes: bool  # nothing is missing then, or the prompt's last token if an answer follows


@dataclass(frozen=True)
class Candidates:
    """A candidate tree to verify, its root at `position`."""

    slot: Slot
    position: int
    tree: TokenTree


@dataclass(frozen=True)
class StepPlan:
    """The rows of a step.

    `prefill` is a llama_decode of its own, without outputs. Then one llama_decode holds the rows
    of `scored`, prompts whose outputs are wanted, and of `trees`, in this order. All are computed
    with the same `adapters`. `restored` says how many tokens of each prompt that was admitted just
    now came from the prompt cache.
    """

    restored: tuple[int, ...] = ()
    prefill: tuple[Chunk, ...] = ()
    scored: tuple[Chunk, ...] = ()
    trees: tuple[Candidates, ...] = ()
    adapters: AdapterSet = ()

    @property
    def n_prefilled(self) -> int:
        """Prompt tokens of the step."""
        return sum(len(chunk.tokens) for chunk in (*self.prefill, *self.scored))

    @property
    def n_scored(self) -> int:
        """Those whose outputs are wanted."""
        return sum(len(chunk.tokens) for chunk in self.scored)


@dataclass(frozen=True)
class Verified:
    """What became of a candidate tree."""

    slot: Slot
    sequence: Sequence
    tree: TokenTree
    path: list[int]  # accepted nodes, the root first
    hidden: np.ndarray | None
    """[n_embd] float32 of the last accepted node, if computed; valid until the next decode."""

    @property
    def sources(self) -> list[str]:
        """Who guessed each accepted draft."""
        return self.tree.sources_of(self.path)


@dataclass
class StepResult:
    """What a step's plan led to; the runner fills it in. Times in seconds."""

    plan: StepPlan
    verified: list[Verified] = field(default_factory=list)  # of every tree
    failed: set[Slot] = field(default_factory=set)  # whose sequences an error ended
    spoilt: set[Slot] = field(default_factory=set)  # of these, whose logits were no numbers
    switched: bool = False  # to other adapters than those of the step before
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    score_seconds: float = 0.0

    @property
    def survivors(self) -> list[Verified]:
        """Whose sequences take part in the next decode."""
        return [
            verified
            for verified in self.verified
            if verified.sequence.finish_reason is None and verified.slot not in self.failed
        ]
