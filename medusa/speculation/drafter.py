"""Candidate trees for all running requests of a step, and learning from what became of them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from medusa.speculation.cost import FixedCost, MeasuredCost, StepCost
from medusa.speculation.expectation import Expectation, Expected
from medusa.speculation.fuse import Fuse
from medusa.speculation.growth import LEAST_GAIN, TreePlan, TreeRequest, plan_trees
from medusa.speculation.heads.guessing import Heads
from medusa.speculation.sources.fixed import FixedSource
from medusa.speculation.sources.guarded import GuardedSource
from medusa.speculation.sources.heads import HeadsSource
from medusa.speculation.sources.lookup import LookupSource
from medusa.speculation.sources.prediction import PredictionSource
from medusa.speculation.sources.source import ROOT, Draft, DraftRequest, DraftSource
from medusa.speculation.tree import StaticShape, TokenTree, TreeLimits

_SURE = 0.75
"""A guess as likely as that is verified without asking the heads, whose time it saves."""

_ASKING_STEPS, _JUDGING_STEPS = 16, 8
"""Every so many steps the heads are asked even if they do not seem to pay: guesses that got better
would not come to light else. How often it is judged what they gain, while they are asked."""
_TRYING_STEPS, _TRIED_NODES = 128, 2
"""Every so many steps some guesses are verified even if they do not seem to pay: a cost that was
measured in a bad moment would not come to light else."""
_GAIN_RATE = 0.3
"""How fast the estimate of what the heads gain follows the last comparison."""


@dataclass(frozen=True)
class DraftConfig:
    """What is guessed."""

    max_nodes: int  # guesses in a step, shared by all requests
    max_requests: int  # in a step
    lookup: bool  # whether to copy from the requests' own texts
    shape: StaticShape | None  # a fixed tree of the heads' guesses instead of the best one
    cost: StepCost | None
    """Of a step by its size; None: measured and kept current, or of no account for a fixed tree."""


@dataclass(frozen=True)
class Drafted:
    """What a step verifies."""

    trees: list[TokenTree]  # in the order of the requests
    heads_seconds: float
    failures: int  # since the last step; they cost guesses only


@dataclass
class _Step:
    """What is gathered for the requests of a step."""

    requests: Sequence[DraftRequest]
    guesses: bool  # from all sources, not just from those that never rest
    asks: bool  # the heads in any case
    judges: bool  # what they gain, if they are asked
    drafts: list[list[Draft]] = field(init=False)  # of each request
    heads_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.drafts = [[] for _ in self.requests]

    @property
    def roots(self) -> list[TokenTree]:
        """Trees without guesses."""
        return [TokenTree.root_only(request.tokens[-1]) for request in self.requests]

    @property
    def has_nothing_to_grow(self) -> bool:
        """Whether nothing is guessed, and no grammar may say what comes next."""
        return not any(self.drafts) and all(r.constraint is None for r in self.requests)

    def is_sure(self, index: int) -> bool:
        """Whether what comes next in a request is as good as known."""
        constraint = self.requests[index].constraint
        if constraint is not None and constraint.forced():
            return True
        drafts = self.drafts[index]
        return any(chance >= _SURE for draft in drafts for chance in draft.guesses(ROOT).values())


class Drafter:
    """Proposes what a step verifies. Never raises: what fails in here costs guesses only.

    Args:
        sources: where guesses come from; at most one is optional.
        cost: time of a step by its size.
        max_nodes: most guesses in a step, shared by all requests.
    """

    def __init__(self, sources: Sequence[DraftSource], cost: StepCost, max_nodes: int) -> None:
        self._sources = [GuardedSource(source) for source in sources]
        self._fuse = Fuse("trees")
        self._cost_fuse = Fuse("cost of a step")
        self._cost = cost
        self._expectation = Expectation(cost)
        self._max_nodes = max_nodes
        self._last_size = 0
        self._steps = 0
        self._gain = LEAST_GAIN  # speed with the optional source over speed without
        self._reported = 0  # failures
        self._heard: list[GuardedSource] = []  # that guessed something for the next step

    @classmethod
    def create(
        cls, heads: Heads | None, config: DraftConfig, measure: Callable[[int], float] | None
    ) -> "Drafter":
        """A drafter with all sources that the configuration asks for.

        Args:
            heads: None drafts from lookups alone.
            config: what is guessed.
            measure: decodes that many tokens and returns the seconds it took; not needed with a
                given cost.
        """
        sources: list[DraftSource] = []
        if config.shape is not None:
            sources += [FixedSource(heads, config.shape)] if heads is not None else []
        else:
            sources += [HeadsSource(heads)] if heads is not None else []
            sources += [LookupSource(config.max_nodes)] if config.lookup else []
            sources += [PredictionSource()]
        cost = FixedCost() if config.cost is None and config.shape is not None else config.cost
        if cost is None:
            assert measure is not None, "a cost that is not given must be measured"
            cost = MeasuredCost.measure(measure, config.max_requests + config.max_nodes)
        return cls(sources, cost, config.max_nodes)

    @property
    def cost(self) -> StepCost:
        """Time of a step by its size, as far as it is known by now."""
        return self._cost

    @property
    def _is_measured(self) -> bool:
        """Whether there is something to learn of what steps take."""
        return isinstance(self._cost, MeasuredCost)

    def draft(self, requests: Sequence[DraftRequest]) -> Drafted:
        """The trees to verify next, one for each request."""
        if not requests:
            self._expectation.plan(None)
            return Drafted([], 0.0, self._new_failures())
        self._steps += 1
        self._heard = []
        step = _Step(
            requests,
            guesses=not self.rests(len(requests)),
            asks=self._steps % _ASKING_STEPS == 0,
            judges=self._steps % _JUDGING_STEPS == 0,
        )
        plan = expected = None
        if not self._fuse.blown:
            with self._fuse("growing"):
                self._gather(step)
                plan = self._grow(step)
        if plan is None:
            trees = step.roots
        else:
            trees, heads_seconds = plan.trees, step.heads_seconds
            expected = Expected(plan.seconds - heads_seconds, step.guesses, heads_seconds > 0.0)
        self._expectation.plan(expected)
        self._last_size = sum(map(len, trees))
        return Drafted(trees, step.heads_seconds, self._new_failures())

    def rests(self, n_requests: int) -> bool:
        """Whether sources that rest are not asked for so many requests now."""
        return self._is_measured and not self._expectation.guesses(n_requests)

    def rest(self, n_requests: int) -> Drafted:
        """As `draft` of requests for which no source could have anything; makes no trees."""
        self._steps += 1
        self._heard = []
        self._last_size = n_requests
        expected = None
        with self._cost_fuse("resting"):
            expected = Expected(self._cost.seconds(n_requests), guessed=False, asked=False)
        self._expectation.plan(expected)
        return Drafted([], 0.0, self._new_failures())

    def observe(self, key: object, accepted: Sequence[int]) -> None:
        """Learn from a verification.

        Args:
            key: the request's.
            accepted: the tokens that the model chose, from the one after the root on.
        """
        for source in self._heard:
            source.observe(key, accepted)

    def learn(self, n_tokens: int, decode_seconds: float, other_seconds: float) -> None:
        """Learn what a step costs, if that was measured: a cost of another kind stays as it is.

        Args:
            n_tokens: in its decode; nothing else was decoded in the step.
            decode_seconds: time of the decode.
            other_seconds: time of everything else but the heads.
        """
        if isinstance(self._cost, MeasuredCost) and not self._cost_fuse.blown:
            with self._cost_fuse("learning"):
                self._cost.observe(n_tokens, decode_seconds, other_seconds)
                self._expectation.learn_excess(decode_seconds + other_seconds)

    def note(self, n_tokens: int) -> None:
        """Know how many tokens were decoded last, in a step whose time says nothing."""
        if isinstance(self._cost, MeasuredCost):
            self._cost.note(n_tokens)

    def compare(self, n_requests: int, n_emitted: int, seconds: float) -> None:
        """Learn whether guessing pays, if the cost is measured.

        Args:
            n_requests: in the decode of a step.
            n_emitted: tokens that they got.
            seconds: time of everything but prefill.
        """
        if self._is_measured and not self._cost_fuse.blown:
            with self._cost_fuse("comparing"):
                self._expectation.learn_payoff(n_requests, n_emitted, seconds)

    def _gather(self, step: _Step) -> None:
        """Ask the sources; the optional one where the others leave doubts, while it pays."""
        everybody = range(len(step.requests))
        sources = [
            source
            for source in self._sources
            if not source.is_off and (step.guesses or not source.rests)
        ]
        for source in sources:
            if not source.optional:
                self._ask(source, step, everybody)
        for source in sources:
            if source.optional and (step.asks or self._gain >= LEAST_GAIN):
                doubtful = [index for index in everybody if not step.is_sure(index)]
                if doubtful:
                    plain = [list(drafts) for drafts in step.drafts] if step.judges else []
                    self._ask(source, step, doubtful)
                    if step.judges:
                        self._judge_gain(step, plain)

    def _ask(self, source: GuardedSource, step: _Step, which: Sequence[int]) -> None:
        """Add a source's drafts for some of the requests, before those of earlier sources."""
        began = time.perf_counter()
        drafts = source.propose([step.requests[index] for index in which])
        if source.runs_heads:
            step.heads_seconds += time.perf_counter() - began
        if any(draft is not None for draft in drafts):
            self._heard.append(source)
        for index, draft in zip(which, drafts, strict=True):
            if draft is not None:
                step.drafts[index].insert(0, draft)

    def _grow(self, step: _Step) -> TreePlan:
        if step.has_nothing_to_grow:
            n_roots = len(step.requests)
            seconds = self._cost.seconds(n_roots) + step.heads_seconds
            return TreePlan(step.roots, n_roots, n_roots / seconds, seconds)
        return plan_trees(
            self._tree_requests(step, step.drafts),
            self._max_nodes,
            self._cost,
            last_size=self._last_size,
            min_nodes=_TRIED_NODES if self._steps % _TRYING_STEPS == 0 else 0,
            other_seconds=step.heads_seconds,
        )

    def _judge_gain(self, step: _Step, plain: list[list[Draft]]) -> None:
        """Compare a step for which the optional source was asked with one without its drafts."""

        def plan(drafts: list[list[Draft]], other_seconds: float) -> TreePlan:
            requests = self._tree_requests(step, drafts)
            return plan_trees(requests, self._max_nodes, self._cost, other_seconds=other_seconds)

        excess = self._expectation.excess
        with_it = plan(step.drafts, step.heads_seconds + excess(asked=True))
        without = plan(plain, excess(asked=False))
        ratio = with_it.tokens_per_second / without.tokens_per_second
        self._gain += _GAIN_RATE * (ratio - self._gain)

    def _tree_requests(self, step: _Step, drafts: list[list[Draft]]) -> list[TreeRequest]:
        return [
            TreeRequest(
                request.tokens[-1],
                TreeLimits(self._max_nodes, request.max_leaves, request.max_depth),
                own,
                request.constraint,
            )
            for request, own in zip(step.requests, drafts, strict=True)
        ]

    def _new_failures(self) -> int:
        guarded = sum(source.failures for source in self._sources)
        total = guarded + self._fuse.failures + self._cost_fuse.failures
        new, self._reported = total - self._reported, total
        return new
