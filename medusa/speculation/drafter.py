"""Candidate trees for all running requests of a step, and learning from what became of them."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np

from medusa.speculation.calibration import Calibration
from medusa.speculation.cost import MeasuredCost
from medusa.speculation.growth import (
    LEAST_GAIN,
    Guesses,
    StepCost,
    TreeGrowth,
    grow_together,
    tokens_per_second,
)
from medusa.speculation.heads.guessing import Heads
from medusa.speculation.heads.header import Variant
from medusa.speculation.sources.lookup import Continuation, Lookup
from medusa.speculation.tree import Proposals, StaticShape, TokenTree, TreeLimits, build_tree

_SURE = 0.75
"""A copied token as likely as that is verified without asking the heads, whose time it saves."""

_EXPLORING_STEPS, _EXPLORING_NODES = 16, 2
"""Now and then the heads are asked and some guesses verified even if they do not seem to pay: a
cost that was measured in a bad moment, or guesses that got better, would not come to light else."""
_GAIN_RATE = 0.3
"""How fast the estimate of what the heads gain follows the last comparison."""


@dataclass(frozen=True)
class Wanted:
    """A request that wants a tree."""

    tokens: Sequence[int]  # prompt and answer so far; the newest is the tree's root
    hidden: np.ndarray  # [n_embd] float32, the state that the newest token was sampled from
    memory: "Memory"
    max_leaves: int
    max_depth: int


@dataclass
class Memory:
    """What the drafter keeps of one request between steps."""

    lookup: Lookup = field(default_factory=Lookup)
    proposals: Proposals | None = None
    copied: Continuation | None = None


@dataclass(frozen=True)
class DraftRequest:
    """A request that wants a tree."""

    key: object
    tokens: Sequence[int]  # prompt and answer so far; the newest is the tree's root
    hidden: np.ndarray  # [n_embd] float32, the state that the newest token was sampled from
    max_leaves: int
    max_depth: int


@dataclass(frozen=True)
class Drafted:
    """Trees, and what they took."""

    trees: list[TokenTree]
    heads_seconds: float
    failures: int


@dataclass(frozen=True)
class DraftConfig:
    """How to draft."""

    max_nodes: int
    largest: int
    lookup: bool = True
    shape: StaticShape | None = None
    cost: StepCost | None = None


class Timer(Protocol):
    """Counts a block as the heads' time."""

    def heads(self) -> AbstractContextManager[None]:
        """The block."""
        ...


class _Clock:
    seconds = 0.0

    @contextmanager
    def heads(self) -> Iterator[None]:
        """X."""
        began = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - began


class Drafter:
    """Proposes what a step verifies.

    Args:
        heads: None drafts from lookups alone.
        cost: time of a step by its size.
        max_nodes: most guesses in a step, shared by all requests.
        lookup: whether to look for continuations in the requests' own texts.
        shape: a fixed tree of the heads' guesses instead of the best one.
    """

    def __init__(
        self,
        heads: Heads | None,
        cost: StepCost,
        max_nodes: int,
        *,
        lookup: bool = True,
        shape: StaticShape | None = None,
    ) -> None:
        self._heads = heads
        self._cost = cost
        self._max_nodes = max_nodes
        self._lookup = lookup and shape is None
        self._shape = shape
        self._calibration: Calibration | None = None
        self._last_size = 0
        self._steps = 0
        self._heads_gain = LEAST_GAIN  # speed with heads over speed without
        self._chained = heads is not None and heads.header.variant is Variant.HYDRA

    @classmethod
    def create(cls, heads: Heads | None, config: DraftConfig, measure: object) -> "Drafter":
        """For the engine."""
        cost = config.cost or MeasuredCost.measure(measure, config.largest)  # type: ignore[arg-type]
        made = cls(heads, cost, config.max_nodes, lookup=config.lookup, shape=config.shape)
        made.memories = WeakKeyDictionary()  # type: ignore[attr-defined]
        return made

    def draft2(self, requests: Sequence[DraftRequest]) -> Drafted:
        """X."""
        memories = self.memories  # type: ignore[attr-defined]
        wanted = [
            Wanted(
                r.tokens, r.hidden, memories.setdefault(r.key, Memory()), r.max_leaves, r.max_depth
            )
            for r in requests
        ]
        clock = _Clock()
        trees = self.draft(wanted, clock)
        return Drafted(trees, clock.seconds, 0)

    def observe2(self, key: object, accepted: Sequence[int]) -> None:
        """X."""
        self.observe(self.memories.setdefault(key, Memory()), accepted)  # type: ignore[attr-defined]

    def prefilled(self, key: object, tokens: Sequence[int]) -> None:
        """X."""

    def learn(self, n: int, a: float, b: float) -> None:
        """X."""
        if isinstance(self._cost, MeasuredCost):
            self._cost.observe(n, a, b)

    def draft(self, requests: Sequence[Wanted], timer: Timer) -> list[TokenTree]:
        """The trees to verify next, one for each request."""
        if not requests:
            return []
        copies = [self._continuation(request) for request in requests]
        doubtful = [
            request
            for request, copy in zip(requests, copies, strict=True)
            if copy is None or copy.chances[0] < _SURE
        ]
        self._steps += 1
        explores = self._steps % _EXPLORING_STEPS == 0
        heads_seconds = 0.0
        if explores or self._heads_gain >= LEAST_GAIN or self._shape is not None:
            heads_seconds = self._ask_heads(doubtful, timer)
        if self._shape is not None:
            return [self._fixed_tree(self._shape, request) for request in requests]
        growths = [self._growth(*pair) for pair in zip(requests, copies, strict=True)]
        if explores and heads_seconds:
            self._judge_gain(requests, copies, growths, heads_seconds)
            growths = [self._growth(*pair) for pair in zip(requests, copies, strict=True)]
        trees = grow_together(
            growths,
            self._max_nodes,
            self._cost,
            last_size=self._last_size,
            min_nodes=_EXPLORING_NODES if explores else 0,
            other_seconds=heads_seconds,
        )
        self._last_size = sum(map(len, trees))
        return trees

    def observe(self, memory: Memory, accepted: Sequence[int]) -> None:
        """Learn from a verification.

        Args:
            memory: the request's.
            accepted: the tokens that the model chose, from the one after the root on.
        """
        if memory.proposals is not None:
            self._judge_heads(memory.proposals, accepted)
        if memory.copied is not None:
            self._judge_copy(memory.lookup, memory.copied, accepted)
        memory.proposals, memory.copied = None, None

    def _judge_gain(
        self,
        requests: Sequence[Wanted],
        copies: Sequence[Continuation | None],
        growths: Sequence[TreeGrowth],
        heads_seconds: float,
    ) -> None:
        """Compare this step, for which the heads were asked, with one of copies alone."""
        plain = [
            TreeGrowth(request.tokens[-1], self._limits(request), None, copy)
            for request, copy in zip(requests, copies, strict=True)
        ]
        rates = [
            tokens_per_second(
                some,
                grow_together(some, self._max_nodes, self._cost, other_seconds=other_seconds),
                self._cost,
                other_seconds,
            )
            for some, other_seconds in ((growths, heads_seconds), (plain, 0.0))
        ]
        self._heads_gain += _GAIN_RATE * (rates[0] / rates[1] - self._heads_gain)

    def _ask_heads(self, requests: Sequence[Wanted], timer: Timer) -> float:
        """Let the heads guess for these requests; returns the seconds it took."""
        if self._heads is None or not requests:
            return 0.0
        began = time.perf_counter()
        with timer.heads():
            proposals = self._heads.propose(
                np.stack([request.hidden for request in requests]),
                np.array([request.tokens[-1] for request in requests], np.int32),
            )
        for request, proposal in zip(requests, proposals, strict=True):
            request.memory.proposals = proposal
        return time.perf_counter() - began

    @staticmethod
    def _judge_copy(lookup: Lookup, copied: Continuation, accepted: Sequence[int]) -> None:
        for guess, ground, token in zip(copied.tokens, copied.grounds, accepted, strict=False):
            lookup.observe(ground, guess == token)
            if guess != token:
                return

    def _judge_heads(self, proposals: Proposals, accepted: Sequence[int]) -> None:
        calibration = self._calibrated(proposals)
        tokens, probs = proposals.tokens.tolist(), proposals.probs.tolist()
        for head, token in enumerate(accepted[: len(tokens)]):
            right = tokens[head].index(token) if token in tokens[head] else None
            calibration.observe(head, probs[head], right)
            if self._chained and right != 0:
                return

    def _calibrated(self, proposals: Proposals) -> Calibration:
        if self._calibration is None:
            assert self._heads is not None
            counts = self._heads.header.calibration
            self._calibration = (
                Calibration.trusting(*proposals.probs.shape)
                if counts is None
                else Calibration(counts)
            )
        return self._calibration

    def _fixed_tree(self, shape: StaticShape, request: Wanted) -> TokenTree:
        proposals, root = request.memory.proposals, request.tokens[-1]
        if proposals is None:
            return TokenTree.root_only(root)
        return build_tree(root, proposals, shape.choose(proposals.probs, self._limits(request)))

    def _continuation(self, request: Wanted) -> Continuation | None:
        if not self._lookup:
            return None
        memory = request.memory
        memory.lookup.extend(request.tokens[len(memory.lookup) :])
        memory.copied = memory.lookup.continuation(min(self._max_nodes, request.max_depth))
        return memory.copied

    def _growth(self, request: Wanted, continuation: Continuation | None) -> TreeGrowth:
        proposals, guesses = request.memory.proposals, None
        if proposals is not None:
            chances = self._calibrated(proposals).estimate(proposals.probs.tolist())
            guesses = Guesses(proposals.tokens.tolist(), chances, self._chained)
        return TreeGrowth(request.tokens[-1], self._limits(request), guesses, continuation)

    def _limits(self, request: Wanted) -> TreeLimits:
        return TreeLimits(self._max_nodes, request.max_leaves, request.max_depth)
