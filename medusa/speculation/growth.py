"""Growing candidate trees best first: the likeliest node of all requests comes next.

Pure logic; no model needed.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from medusa.sampling.constraints import ConstraintFailedError, TokenConstraint
from medusa.speculation.cost import StepCost
from medusa.speculation.sources.source import GRAMMAR, ROOT, Draft
from medusa.speculation.tree import TokenTree, TreeLimits

LEAST_GAIN = 1.05
"""A step with guesses should seem that much faster: under load, where they are worth little, what
the estimate leaves out decides (requests end apart, and the last ones run in small batches)."""

_LIKELIEST = 0.99
"""Chance of a guess that only a constraint's bans make certain."""

_Candidate = tuple[float, int, int, int]
"""A node that may be added: negative chance, age, parent, token. The likeliest comes first, of
equally likely ones the oldest."""


@dataclass(frozen=True)
class TreeRequest:
    """What one request's tree is grown from."""

    root: int  # the newest accepted token
    limits: TreeLimits
    drafts: Sequence[Draft] = ()  # where two guess the same token, the later one's word goes first
    constraint: TokenConstraint | None = None  # on what comes after the root


@dataclass(frozen=True)
class TreePlan:
    """The trees of a step, and what to expect of them."""

    trees: list[TokenTree]  # in the order of the requests
    expected_tokens: float  # of the step, on average
    tokens_per_second: float  # where the size of the decode need not change
    seconds: float  # that it then takes


def plan_trees(
    requests: Sequence[TreeRequest],
    max_nodes: int,
    cost: StepCost,
    *,
    last_size: int = 0,
    min_nodes: int = 0,
    other_seconds: float = 0.0,
) -> TreePlan:
    """Trees that make decoding fastest, the likeliest nodes of all of them first.

    With E tokens expected of a step of n tokens that takes T(n), m more nodes pay if
    (E + m * chance) / T(n + m) is more than for any smaller step; the nodes after the next are no
    likelier than that. Of the sizes up to where none can pay any more, or up to the last step's,
    the one with the most tokens a second is taken, if that is clearly more than without guesses.
    Nodes that are certain are taken in any case: their tokens have to be decoded sooner or later.

    Args:
        requests: one for every running request; at least one.
        max_nodes: at most so many nodes in all.
        cost: time of a step by the number of its tokens.
        last_size: tokens of the step before.
        min_nodes: take so many nodes, if there are, whether they pay or not.
        other_seconds: what the step costs beside.
    """
    growths = [TreeGrowth(request) for request in requests]
    n_roots = len(growths)
    owners: list[int] = []  # whose each node is, likeliest first
    required = 0  # that many of them are taken whether they pay or not
    # of a step with 0, 1, 2 ... nodes
    seconds = [cost.seconds(n_roots + more) + other_seconds for more in range(max_nodes + 1)]
    expected = [float(n_roots)]
    fastest = n_roots / seconds[0]  # tokens a second

    # Of equally likely nodes, the one of the smallest tree comes first.
    order = [(-growth.chance, 0, index) for index, growth in enumerate(growths)]
    heapq.heapify(order)
    while len(owners) < max_nodes and order[0][0] < 0.0:
        negative_chance, _, index = order[0]
        if len(owners) < min_nodes or negative_chance <= -1.0:
            required += 1
        elif n_roots + len(owners) >= last_size and not _may_pay(
            -negative_chance, expected[-1], seconds[len(owners) + 1 :], fastest
        ):
            break
        growth = growths[index]
        growth.grow()
        owners.append(index)
        expected.append(expected[-1] - negative_chance)
        fastest = max(fastest, expected[-1] / seconds[len(owners)])
        heapq.heapreplace(order, (-growth.chance, growth.n_nodes, index))

    change = cost.change_seconds
    rates = [
        tokens / (time + (size != last_size) * change)
        for size, tokens, time in zip(count(n_roots), expected, seconds, strict=False)
    ]
    best = max(range(required, len(rates)), key=rates.__getitem__)
    if rates[best] < LEAST_GAIN * rates[0]:
        best = required
    taken = owners[:best]
    return TreePlan(
        [growth.tree(taken.count(index)) for index, growth in enumerate(growths)],
        expected[best],
        expected[best] / seconds[best],
        seconds[best],
    )


def _may_pay(chance: float, tokens: float, seconds: Sequence[float], fastest: float) -> bool:
    """Whether more nodes of at most a chance could make a step the fastest.

    Args:
        chance: of the next one.
        tokens: expected without it.
        seconds: of the step with it, with two more, and so on.
        fastest: tokens a second that are to be exceeded.
    """
    return any(tokens + more * chance > fastest * time for more, time in enumerate(seconds, 1))


class TreeGrowth:
    """A candidate tree that grows by its likeliest missing node.

    Args:
        request: what it grows from.
    """

    def __init__(self, request: TreeRequest) -> None:
        self._limits = request.limits
        self._tokens: list[int] = []
        self._parents: list[int] = []
        self._depths: list[int] = []
        self._drafts: list[list[tuple[Draft, int]]] = []  # that go on below a node, and where
        self._constraints: list[TokenConstraint | None] = []  # on what comes below a node
        self._inner: set[int] = set()
        self._n_leaves = 1
        self._candidates: list[_Candidate] = []  # a heap; its first fits into the limits
        self._age = 0
        drafts = [(draft, ROOT) for draft in request.drafts]
        self._add(request.root, -1, 0, 1.0, drafts, request.constraint)

    @property
    def chance(self) -> float:
        """Chance that the next node gets accepted; 0 if there is none."""
        return -self._candidates[0][0] if self._candidates else 0.0

    @property
    def n_nodes(self) -> int:
        """Nodes beside the root."""
        return len(self._tokens) - 1

    def grow(self) -> None:
        """Add the next node."""
        negative_chance, _, parent, token = heapq.heappop(self._candidates)
        self._n_leaves += parent in self._inner
        self._inner.add(parent)
        drafts = [
            (draft, below)
            for draft, place in self._drafts[parent]
            if (below := draft.follow(place, token)) is not None
        ]
        constraint = self._constraints[parent]
        if constraint is not None:
            constraint = constraint.fork()
            try:
                constraint.accept(token)
            except ConstraintFailedError:  # if the token is emitted, its request ends so
                drafts, constraint = [], None
        self._add(token, parent, self._depths[parent] + 1, -negative_chance, drafts, constraint)

    def tree(self, n_nodes: int | None = None) -> TokenTree:
        """What has grown so far, or its first nodes beside the root."""
        end = None if n_nodes is None else n_nodes + 1
        tokens, parents = tuple(self._tokens[:end]), tuple(self._parents[:end])
        sources = (
            _guesser(self._drafts[parent], self._constraints[parent], token)
            for token, parent in zip(tokens[1:], parents[1:], strict=True)
        )
        return TokenTree(tokens, parents, tuple(sources))

    def _add(
        self,
        token: int,
        parent: int,
        depth: int,
        chance: float,
        drafts: list[tuple[Draft, int]],
        constraint: TokenConstraint | None,
    ) -> None:
        node = len(self._tokens)
        self._tokens.append(token)
        self._parents.append(parent)
        self._depths.append(depth)
        self._drafts.append(drafts)
        self._constraints.append(constraint)
        candidates = self._candidates
        if depth < self._limits.max_depth:
            for child, conditional in _lawful(_merged(drafts), constraint).items():
                if 0.0 < conditional <= 1.0:
                    self._age += 1
                    heapq.heappush(candidates, (-chance * conditional, self._age, node, child))
        while candidates and not self._fits(candidates[0]):
            heapq.heappop(candidates)

    def _fits(self, candidate: _Candidate) -> bool:
        limits, parent = self._limits, candidate[2]
        return (
            len(self._tokens) <= limits.max_nodes
            and self._n_leaves + (parent in self._inner) <= limits.max_leaves
        )


def _guesser(
    drafts: list[tuple[Draft, int]], constraint: TokenConstraint | None, token: int
) -> str:
    """Whose guess a token is: where several are right, the one whose word goes first."""
    if constraint is not None and constraint.forced():
        return GRAMMAR
    *earlier, (last, last_place) = drafts
    if earlier and token not in last.guesses(last_place):
        return _guesser(earlier, None, token)
    return last.source


def _merged(drafts: list[tuple[Draft, int]]) -> Mapping[int, float]:
    """Tokens that may follow, with their chances given that all before is right.

    Drafts that agree count as independent: the token is wrong if both are, and what else the
    earlier one guesses becomes as much less likely.
    """
    merged: Mapping[int, float] = {}
    for draft, place in drafts:
        guesses = draft.guesses(place)
        merged = _agreed(merged, guesses) if merged else guesses
    return merged


def _lawful(
    guesses: Mapping[int, float], constraint: TokenConstraint | None
) -> Mapping[int, float]:
    """What a constraint leaves of guesses, or what it forces.

    Each is as much likelier as the forbidden ones were; certain is only what is forced.
    """
    if constraint is None:
        return guesses
    forced = constraint.forced()
    if forced:
        return {forced[0]: 1.0}
    lawful = {token: chance for token, chance in guesses.items() if constraint.allows(token)}
    possible = 1.0 - (sum(guesses.values()) - sum(lawful.values()))
    return {
        token: min(chance / possible, _LIKELIEST) if possible > chance else _LIKELIEST
        for token, chance in lawful.items()
    }


def _agreed(earlier: Mapping[int, float], later: Mapping[int, float]) -> Mapping[int, float]:
    later = {token: chance for token, chance in later.items() if 0.0 < chance <= 1.0}
    shared = min(1.0, sum(chance for token, chance in later.items() if token in earlier))
    merged = {
        token: (1.0 - shared) * chance for token, chance in earlier.items() if 0.0 < chance <= 1.0
    }
    for token, chance in later.items():
        merged[token] = min(1.0, chance + merged.get(token, 0.0))
    return merged
