"""Candidate trees: which guesses are verified together, and which leaves each node leads to.

Node 0 is the root: the newest accepted token, which is not in the KV cache yet. A node at depth d
holds a guess for the token d places after the root. Pure data; no model needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

Choice = tuple[int, ...]
"""A node named as in the Medusa paper: the rank taken at each depth, e.g. (0, 2) is the third
best guess of head 1 below the best guess of head 0."""


class _Form(NamedTuple):
    """What follows from who is whose parent."""

    depths: tuple[int, ...]
    leaves: tuple[int, ...]
    leaf_sets: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, parents: tuple[int, ...]) -> "_Form":
        depths = [0]
        for parent in parents[1:]:
            depths.append(depths[parent] + 1)
        inner = set(parents)
        leaves = tuple(node for node in range(len(parents)) if node not in inner)
        sets: list[list[int]] = [[] for _ in parents]
        for index, leaf in enumerate(leaves):
            node = leaf
            while node >= 0:
                sets[node].append(index)
                node = parents[node]
        return cls(tuple(depths), leaves, tuple(map(tuple, sets)))


@dataclass(frozen=True)
class TokenTree:
    """Tokens to verify in one decode. Parents come before their children."""

    tokens: tuple[int, ...]
    parents: tuple[int, ...]  # the root's is -1
    sources: tuple[str, ...] = field(default=(), compare=False)  # who guessed each, but the root

    def __post_init__(self) -> None:
        assert self.parents[0] == -1
        assert all(0 <= p < i for i, p in enumerate(self.parents[1:], start=1))

    @classmethod
    def root_only(cls, token: int) -> "TokenTree":
        """A tree without guesses: plain decoding of one token."""
        return cls((token,), (-1,))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_drafts(self) -> int:
        """Nodes that are guesses, i.e. all but the root."""
        return len(self.tokens) - 1

    @property
    def depths(self) -> tuple[int, ...]:
        """Distance of each node from the root."""
        return self._form.depths

    @property
    def leaves(self) -> tuple[int, ...]:
        """Nodes without children, in node order."""
        return self._form.leaves

    @property
    def leaf_sets(self) -> tuple[tuple[int, ...], ...]:
        """For each node the indices into `leaves` of all leaves at or below it, ascending."""
        return self._form.leaf_sets

    def first(self, count: int) -> "TokenTree":
        """The tree of the first `count` nodes, the root included."""
        return TokenTree(self.tokens[:count], self.parents[:count], self.sources[: count - 1])

    def sources_of(self, path: Sequence[int]) -> list[str]:
        """Who guessed each node of a path but the root, which comes first."""
        return [self.sources[node - 1] for node in path[1:]]

    def child(self, node: int, token: int) -> int | None:
        """The child of `node` that guesses `token`, if there is one."""
        for child in range(node + 1, len(self.tokens)):
            if self.parents[child] == node and self.tokens[child] == token:
                return child
        return None

    @property
    def _form(self) -> _Form:
        return _form_of(self.parents)


@lru_cache(maxsize=1024)
def _form_of(parents: tuple[int, ...]) -> _Form:
    """Trees of the same form come again and again, the root alone above all."""
    return _Form.of(parents)


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
