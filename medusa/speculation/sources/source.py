"""What every source of guesses looks like to the drafter and to the growth of trees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from medusa.sampling.constraints import TokenConstraint
from medusa.speculation.alignment import Alignment

ROOT = 0
"""The place of every draft at which a tree begins."""

HEADS, LOOKUP, PREDICTION, GRAMMAR = "heads", "lookup", "prediction", "grammar"
"""Who may have guessed a token; the grammar, what it leaves no choice about."""


@dataclass(frozen=True)
class DraftRequest:
    """A running request that wants a tree."""

    key: object
    """The request's identity: hashable, and weakly referenceable, as what is remembered of a
    request goes with it."""
    tokens: Sequence[int]  # prompt and answer so far; the newest is the tree's root
    hidden: np.ndarray | None
    """[n_embd] float32, the state that the newest token was sampled from, if heads are to guess."""
    max_leaves: int
    max_depth: int
    constraint: TokenConstraint | None = None  # on what comes after the newest token
    alignment: Alignment | None = None  # of the answer with the text that was predicted for it


class Draft(Protocol):
    """What one source guesses for one request, read along the paths of a tree that grows.

    A place stands for what the draft knows of a path: `ROOT` of the empty one, and `follow` leads
    from there to the others.
    """

    @property
    def source(self) -> str:
        """Whose guesses these are, in the metrics and for clients."""
        ...

    def guesses(self, place: int) -> Mapping[int, float]:
        """Tokens that may come next, each with its chance given that all before it is right."""
        ...

    def follow(self, place: int, token: int) -> int | None:
        """The place after `token`, guessed here or not; None if the draft has nothing there."""
        ...


class DraftSource(Protocol):
    """Guesses for all requests of a step, and learning from what became of them.

    Whatever is raised here costs guesses, never a request; see `GuardedSource`.
    """

    name: str  # in the log
    runs_heads: bool  # its time counts as the heads'
    optional: bool  # asked only for requests in doubt, and only while that pays
    rests: bool  # not asked while guessing does not pay

    def propose(self, requests: Sequence[DraftRequest]) -> Sequence[Draft | None]:
        """A draft for each request, None where there is nothing to guess."""
        ...

    def observe(self, key: object, accepted: Sequence[int]) -> None:
        """Learn from the tokens that the model chose after the root of the last draft."""
        return
