"""Guesses of heads and lookup for tests, and every tree that can be made of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from medusa.speculation.growth import TreeGrowth, TreeRequest
from medusa.speculation.sources.heads import HeadsDraft
from medusa.speculation.tree import TokenTree, TreeLimits

ROOT = 100
ROOMY = TreeLimits(max_nodes=1000, max_leaves=1000, max_depth=1000)
Path = tuple[int, ...]
"""A node by the tokens that lead to it."""

chances = st.floats(0.01, 0.99)
limits = st.builds(
    TreeLimits,
    max_nodes=st.integers(0, 12),
    max_leaves=st.integers(1, 5),
    max_depth=st.integers(0, 6),
)


@dataclass(frozen=True)
class Guesses:
    """What the heads guess: of each head, tokens and their chances, the likeliest first."""

    tokens: Sequence[Sequence[int]]
    chances: Sequence[Sequence[float]]
    chained: bool

    def draft(self) -> HeadsDraft:
        levels = [
            dict(zip(*level, strict=True)) for level in zip(self.tokens, self.chances, strict=True)
        ]
        return HeadsDraft(levels, [row[0] for row in self.tokens] if self.chained else None)


@dataclass(frozen=True)
class Copy:
    """What a lookup copies: a chain of single guesses."""

    tokens: Sequence[int]
    chances: Sequence[float]

    def draft(self) -> HeadsDraft:
        return Guesses([[t] for t in self.tokens], [[c] for c in self.chances], True).draft()


def request_of(
    limits: TreeLimits, guesses: Guesses | None = None, copy: Copy | None = None
) -> TreeRequest:
    drafts = [source.draft() for source in (guesses, copy) if source is not None]
    return TreeRequest(ROOT, limits, drafts)


def growth_of(
    limits: TreeLimits, guesses: Guesses | None = None, copy: Copy | None = None
) -> TreeGrowth:
    return TreeGrowth(request_of(limits, guesses, copy))


@st.composite
def guesses(draw: st.DrawFn, *, max_heads: int = 4, max_rank: int = 4) -> Guesses:
    """Heads that guess different tokens each, the likeliest first; they sum to at most 1."""
    top_k = draw(st.integers(1, max_rank))
    tokens, rows = [], []
    for _ in range(draw(st.integers(1, max_heads))):
        tokens.append(draw(st.permutations(range(6)))[:top_k])
        raw = sorted(draw(st.lists(chances, min_size=top_k, max_size=top_k)), reverse=True)
        total = max(1.0, sum(raw))
        rows.append([chance / total for chance in raw])
    return Guesses(tokens, rows, draw(st.booleans()))


@st.composite
def copies(draw: st.DrawFn, *, max_size: int = 8) -> Copy:
    tokens = draw(st.lists(st.integers(0, 5), min_size=1, max_size=max_size))
    return Copy(tuple(tokens), tuple(draw(chances) for _ in tokens))


def paths(tree: TokenTree) -> list[Path]:
    """Every node but the root, in order."""
    found: list[Path] = [()]
    for token, parent in zip(tree.tokens[1:], tree.parents[1:], strict=True):
        found.append((*found[parent], token))
    return found[1:]


def grow_fully(growth: TreeGrowth) -> list[float]:
    """The chances of the nodes as they were added."""
    seen = []
    while growth.chance > 0:
        seen.append(growth.chance)
        growth.grow()
    return seen


def all_nodes(guesses: Guesses | None, copy: Copy | None = None) -> dict[Path, float]:
    """Every node that could be in a tree, and its chance."""
    heads = list(zip(guesses.tokens, guesses.chances, strict=True)) if guesses else []
    best = tuple(tokens[0] for tokens, _ in heads)
    copied = tuple(copy.tokens) if copy else ()
    nodes: dict[Path, float] = {}

    def visit(path: Path, chance: float) -> None:
        depth = len(path)
        children: dict[int, float] = {}
        if depth < len(heads) and guesses and (not guesses.chained or path == best[:depth]):
            children |= dict(zip(*heads[depth], strict=True))
        if copy and depth < len(copied) and path == copied[:depth]:
            token = copied[depth]
            children[token] = max(children.get(token, 0.0), copy.chances[depth])
        for token, own in children.items():
            nodes[*path, token] = chance * own
            visit((*path, token), chance * own)

    visit((), 1.0)
    return nodes
