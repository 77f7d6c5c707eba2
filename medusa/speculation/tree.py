"""Candidate trees: which guesses are verified together, and which leaves each node leads to.

Node 0 is the root: the newest accepted token, which is not in the KV cache yet. A node at depth d
holds a guess for the token d places after the root. Pure data; no model needed.
"""

from dataclasses import dataclass
from functools import cached_property

Choice = tuple[int, ...]
"""A node named as in the Medusa paper: the rank taken at each depth, e.g. (0, 2) is the third
best guess of head 1 below the best guess of head 0."""


@dataclass(frozen=True)
class TokenTree:
    """Tokens to verify in one decode. Parents come before their children."""

    tokens: tuple[int, ...]
    parents: tuple[int, ...]  # the root's is -1

    def __post_init__(self) -> None:
        assert self.parents[0] == -1
        assert all(0 <= p < i for i, p in enumerate(self.parents[1:], start=1))

    @classmethod
    def root_only(cls, token: int) -> "TokenTree":
        """A tree without guesses: plain decoding of one token."""
        tree = cls((token,), (-1,))
        tree.__dict__.update(_OF_ROOT_ONLY)
        return tree

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_drafts(self) -> int:
        """Nodes that are guesses, i.e. all but the root."""
        return len(self.tokens) - 1

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """Distance of each node from the root."""
        depths = [0]
        for parent in self.parents[1:]:
            depths.append(depths[parent] + 1)
        return tuple(depths)

    @cached_property
    def leaves(self) -> tuple[int, ...]:
        """Nodes without children, in node order."""
        inner = set(self.parents)
        return tuple(node for node in range(len(self)) if node not in inner)

    @cached_property
    def leaf_sets(self) -> tuple[tuple[int, ...], ...]:
        """For each node the indices into `leaves` of all leaves at or below it, ascending."""
        sets: list[list[int]] = [[] for _ in self.tokens]
        for index, leaf in enumerate(self.leaves):
            node = leaf
            while node >= 0:
                sets[node].append(index)
                node = self.parents[node]
        return tuple(map(tuple, sets))

    @cached_property
    def _children(self) -> dict[tuple[int, int], int]:
        return {
            (parent, token): node
            for node, (parent, token) in enumerate(zip(self.parents, self.tokens, strict=True))
            if node
        }

    def child(self, node: int, token: int) -> int | None:
        """The child of `node` that guesses `token`, if there is one."""
        return self._children.get((node, token))


_OF_ROOT_ONLY = {
    name: getattr(TokenTree((0,), (-1,)), name)
    for name in ("depths", "leaves", "leaf_sets", "_children")
}
"""What is derived of trees is the same for all that are a root: plain decoding need not do it."""


@dataclass(frozen=True)
class TreeLimits:
    """How large one slot's tree may get."""

    max_nodes: int  # guesses, the root not counted
    max_leaves: int
    max_depth: int


@dataclass(frozen=True)
class StaticShape:
    """A fixed list of choices, as the Medusa paper uses (Cai et al. 2024, section 2.3.3).

    Raises:
        ValueError: a choice is empty, negative, or lacks its parent.
    """

    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        known = set(self.choices) | {()}
        for choice in self.choices:
            if not choice or min(choice) < 0:
                raise ValueError(f"a tree choice is a non-empty list of ranks >= 0, not {choice}")
            if choice[:-1] not in known:
                raise ValueError(f"tree choice {choice} lacks its parent {choice[:-1]}")
