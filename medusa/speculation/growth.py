"""Growing candidate trees best first: the likeliest node of all requests comes next.

Pure logic; no model needed.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from medusa.speculation.sources.lookup import Continuation
from medusa.speculation.tree import TokenTree, TreeLimits

LEAST_GAIN = 1.05
"""A step with guesses should seem that much faster: under load, where they are worth little, what
the estimate leaves out decides (requests end apart, and the last ones run in small batches)."""


@dataclass(frozen=True)
class Guesses:
    """What the heads guess for one slot, best first: of each head, tokens and their chances."""

    tokens: Sequence[Sequence[int]]
    chances: Sequence[Sequence[float]]  # given that the tokens before are right
    chained: bool  # a head's guesses hold below the best guesses of the heads before it only


class StepCost(Protocol):
    """What a decode costs."""

    @property
    def change_seconds(self) -> float:
        """What a step takes longer if it has another size than the one before."""
        ...

    def seconds(self, n_tokens: int) -> float:
        """Time of a whole step whose decode has so many tokens."""
        ...


class _Candidate(NamedTuple):
    """A node that may be added; ordered by falling chance, then by age."""

    negative_chance: float
    age: int
    parent: int
    token: int


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
        self._limits = limits
        self._guesses = guesses or Guesses((), (), chained=False)
        self._copy = continuation or Continuation()
        self._tokens: list[int] = []
        self._parents: list[int] = []
        self._chances: list[float] = []
        self._depths: list[int] = []
        self._is_best: list[bool] = []  # only best guesses lead to the node
        self._is_copy: list[bool] = []  # only copied tokens do
        self._inner: set[int] = set()
        self._n_leaves = 1
        self._heap: list[_Candidate] = []
        self._age = 0
        self._add(root, -1, 0, 1.0, is_best=True, is_copy=True)

    @property
    def chance(self) -> float:
        """Chance that the next node gets accepted; 0 if there is none."""
        return -self._heap[0].negative_chance if self._heap else 0.0

    def grow(self) -> None:
        """Add the next node."""
        negative_chance, _, parent, token = heapq.heappop(self._heap)
        depth = self._depths[parent]
        guesses, copy = self._guesses.tokens, self._copy.tokens
        self._n_leaves += parent in self._inner
        self._inner.add(parent)
        self._add(
            token,
            parent,
            depth + 1,
            -negative_chance,
            is_best=self._is_best[parent] and depth < len(guesses) and guesses[depth][0] == token,
            is_copy=self._is_copy[parent] and depth < len(copy) and copy[depth] == token,
        )

    def expected(self, n_nodes: int) -> float:
        """Tokens that the root and the first nodes beside it yield on average."""
        return sum(self._chances[: n_nodes + 1])

    def tree(self, n_nodes: int | None = None) -> TokenTree:
        """What has grown so far, or its first nodes beside the root."""
        end = None if n_nodes is None else n_nodes + 1
        return TokenTree(tuple(self._tokens[:end]), tuple(self._parents[:end]))

    def _add(
        self, token: int, parent: int, depth: int, chance: float, *, is_best: bool, is_copy: bool
    ) -> None:
        node = len(self._tokens)
        self._tokens.append(token)
        self._parents.append(parent)
        self._chances.append(chance)
        self._depths.append(depth)
        self._is_best.append(is_best)
        self._is_copy.append(is_copy)
        for child, conditional in self._children(node).items():
            if conditional > 0.0:
                self._age += 1
                entry = _Candidate(-chance * conditional, self._age, node, child)
                heapq.heappush(self._heap, entry)
        while self._heap and not self._fits(self._heap[0]):
            heapq.heappop(self._heap)

    def _children(self, node: int) -> dict[int, float]:
        """Tokens that may follow a node, with their chances given that it is right.

        Heads and lookup that agree count as independent: the token is wrong if both are, and what
        else the heads guess becomes as much less likely.
        """
        depth = self._depths[node]
        children: dict[int, float] = {}
        guesses, copy = self._guesses, self._copy
        if depth < len(guesses.tokens) and (self._is_best[node] or not guesses.chained):
            children.update(zip(guesses.tokens[depth], guesses.chances[depth], strict=True))
        if self._is_copy[node] and depth < len(copy.tokens):
            token, chance = copy.tokens[depth], copy.chances[depth]
            if token in children:
                children = {guess: (1.0 - chance) * own for guess, own in children.items()}
                chance = min(1.0, chance + children[token])
            children[token] = chance
        return children

    def _fits(self, candidate: _Candidate) -> bool:
        limits = self._limits
        return (
            len(self._tokens) <= limits.max_nodes
            and self._depths[candidate.parent] < limits.max_depth
            and self._n_leaves + (candidate.parent in self._inner) <= limits.max_leaves
        )


def grow_together(
    growths: Sequence[TreeGrowth],
    max_nodes: int,
    cost: StepCost,
    *,
    last_size: int = 0,
    min_nodes: int = 0,
    other_seconds: float = 0.0,
) -> list[TokenTree]:
    """Trees that make decoding fastest, the likeliest nodes of all of them first.

    With E tokens expected of a step of n tokens that takes T(n), the next node pays if
    (E + chance) / T(n + 1) > E / T(n). Of the sizes up to where none pays any more, or up to the
    last step's, the one with the most tokens a second is taken, if that is clearly more than
    without guesses.

    Args:
        growths: one for every running request; at least one.
        max_nodes: at most so many nodes in all.
        cost: time of a step by the number of its tokens.
        last_size: tokens of the step before.
        min_nodes: take so many nodes, if there are, whether they pay or not.
        other_seconds: what the step costs beside.
    """
    size, expected = len(growths), float(len(growths))
    order = [(-growth.chance, index) for index, growth in enumerate(growths)]
    heapq.heapify(order)
    grown: list[int] = []
    best_rate = plain_rate = 0.0
    best_size = size
    while True:
        seconds = cost.seconds(size) + other_seconds
        rate = expected / (seconds + (size != last_size) * cost.change_seconds)
        plain_rate = plain_rate or rate
        if rate > best_rate or len(grown) <= min_nodes:
            best_rate, best_size = rate, size
        chance, index = -order[0][0], order[0][1]
        pays = (expected + chance) * seconds > expected * (cost.seconds(size + 1) + other_seconds)
        if (
            chance <= 0.0
            or len(grown) == max_nodes
            or not (pays or size < last_size or len(grown) < min_nodes)
        ):
            break
        growths[index].grow()
        grown.append(index)
        size += 1
        expected += chance
        heapq.heapreplace(order, (-growths[index].chance, index))
    if best_rate < LEAST_GAIN * plain_rate:
        best_size = len(growths) + min(min_nodes, len(grown))
    kept = grown[: best_size - len(growths)]
    return [growth.tree(kept.count(index)) for index, growth in enumerate(growths)]


def tokens_per_second(
    growths: Sequence[TreeGrowth], trees: Sequence[TokenTree], cost: StepCost, other_seconds: float
) -> float:
    """What a step with these trees, grown by these growths, yields on average."""
    expected = sum(
        growth.expected(tree.n_drafts) for growth, tree in zip(growths, trees, strict=True)
    )
    return expected / (cost.seconds(sum(map(len, trees))) + other_seconds)
