"""Growing candidate trees best first: the likeliest node of all requests comes next.

Pure logic; no model needed.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from medusa.drafting.lookup import Continuation
from medusa.tree import TokenTree, TreeLimits


@dataclass(frozen=True)
class Guesses:
    """What the heads guess for one slot, best first: of each head, tokens and their chances."""

    tokens: Sequence[Sequence[int]]
    chances: Sequence[Sequence[float]]  # given that the tokens before are right
    chained: bool  # a head's guesses hold below the best guesses of the heads before it only


class StepCost(Protocol):
    """What a decode costs."""

    def seconds(self, n_tokens: int) -> float:
        """Time of a whole step whose decode has so many tokens."""
        ...


class _Candidate(NamedTuple):
    """A node that may be added; ordered by falling chance, then by age."""

    negative_chance: float
    age: int
    parent: int
    token: int
    head: int  # -1: from the continuation
    rank: int  # of the head's guess, or the place in the continuation
    chained: bool  # only best guesses lead here


class TreeGrowth:
    """A candidate tree that grows by its likeliest missing node.

    Args:
        root: the newest accepted token.
        limits: how large the tree may get.
        guesses: of the heads.
        continuation: of the lookup.
    """

    def __init__(
        self,
        root: int,
        limits: TreeLimits,
        guesses: Guesses | None = None,
        continuation: Continuation | None = None,
    ) -> None:
        self._tokens, self._parents, self._depths, self._chances = [root], [-1], [0], [1.0]
        self._children: dict[tuple[int, int], int] = {}
        self._inner: set[int] = set()
        self._n_leaves = 1
        self._limits = limits
        self._guesses = guesses
        self._continuation = continuation
        self._heap: list[_Candidate] = []
        self._age = 0
        if guesses is not None:
            self._consider_guess(0, 0, 0, chained=True)
        if continuation is not None:
            self._consider_copy(0, 0)
        self._discard()

    @property
    def chance(self) -> float:
        """Chance that the next node gets accepted; 0 if there is none."""
        return -self._heap[0].negative_chance if self._heap else 0.0

    def grow(self) -> None:
        """Add the next node."""
        candidate = heapq.heappop(self._heap)
        node = len(self._tokens)
        parent = candidate.parent
        self._tokens.append(candidate.token)
        self._parents.append(parent)
        self._depths.append(self._depths[parent] + 1)
        self._chances.append(-candidate.negative_chance)
        self._children[parent, candidate.token] = node
        self._n_leaves += parent in self._inner
        self._inner.add(parent)
        self._expand(candidate, node)
        self._discard()

    def tree(self) -> TokenTree:
        """What has grown so far."""
        return TokenTree(tuple(self._tokens), tuple(self._parents))

    def _discard(self) -> None:
        """Drop candidates from the top that are in the tree already or do not fit."""
        while self._heap:
            top = self._heap[0]
            node = self._children.get((top.parent, top.token))
            if node is None and self._fits(top):
                return
            heapq.heappop(self._heap)
            self._expand(top, node)

    def _fits(self, candidate: _Candidate) -> bool:
        limits = self._limits
        return (
            len(self._tokens) <= limits.max_nodes
            and self._depths[candidate.parent] < limits.max_depth
            and self._n_leaves + (candidate.parent in self._inner) <= limits.max_leaves
        )

    def _expand(self, candidate: _Candidate, node: int | None) -> None:
        """Consider what comes after a candidate; `node` is its place in the tree, if any."""
        head, rank = candidate.head, candidate.rank
        if head < 0:
            if node is not None:
                self._consider_copy(rank + 1, node)
            return
        self._consider_guess(head, rank + 1, candidate.parent, chained=False)
        if node is not None:
            self._consider_guess(head + 1, 0, node, chained=candidate.chained)

    def _consider_guess(self, head: int, rank: int, parent: int, *, chained: bool) -> None:
        guesses = self._guesses
        if guesses is None or head >= len(guesses.tokens) or rank >= len(guesses.tokens[head]):
            return
        if guesses.chained and rank == 0 and not chained:
            return
        chance = self._chances[parent] * guesses.chances[head][rank]
        self._push(chance, parent, guesses.tokens[head][rank], head, rank, chained)

    def _consider_copy(self, place: int, parent: int) -> None:
        copy = self._continuation
        if copy is not None and place < len(copy.tokens):
            chance = self._chances[parent] * copy.chances[place]
            self._push(chance, parent, copy.tokens[place], -1, place, False)

    def _push(
        self, chance: float, parent: int, token: int, head: int, rank: int, chained: bool
    ) -> None:
        if chance > 0.0:
            self._age += 1
            entry = _Candidate(-chance, self._age, parent, token, head, rank, chained)
            heapq.heappush(self._heap, entry)


def grow_together(growths: Sequence[TreeGrowth], max_nodes: int, cost: StepCost) -> None:
    """Add nodes, the likeliest of all trees first, as long as each makes decoding faster.

    A node pays if the tokens expected per second rise: with E tokens expected of a step of n
    tokens in time T, (E + chance) / T(n + 1) > E / T(n).

    Args:
        growths: one for every running request.
        max_nodes: at most so many nodes in all.
        cost: time of a step by the number of its tokens.
    """
    n_tokens, expected = len(growths), float(len(growths))
    order = [(-growth.chance, index) for index, growth in enumerate(growths)]
    heapq.heapify(order)
    for _ in range(max_nodes):
        chance, index = -order[0][0], order[0][1]
        pays = (expected + chance) * cost.seconds(n_tokens) > expected * cost.seconds(n_tokens + 1)
        if chance <= 0.0 or not pays:
            return
        growths[index].grow()
        n_tokens += 1
        expected += chance
        heapq.heapreplace(order, (-growths[index].chance, index))
