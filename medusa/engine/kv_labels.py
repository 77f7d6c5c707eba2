"""Sequence labels: how a slot's KV cells are shared by the branches of its candidate tree.

llama.cpp lets a token attend to the cells that carry its first sequence id. So a slot owns a range
of ids, one for each leaf its trees may have; every node carries the ids of the leaves below it, and
that is all the tree attention there is. Id 0 of the slot is its primary: between steps exactly the
cells of the slot's tokens carry it. The other ids are brought up to date only when a tree needs
them, since each label operation scans the whole cache.

llama.cpp plans a decode anew, which takes as long as some rows do, whenever another number of ids
takes part than in the one before (`llm_graph_params::allow_reuse`). So the root carries more ids
than the tree has leaves: as many as the tree has nodes. A decode's size then says it all.
"""

import sys
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from medusa.engine.memory import MemoryRules, guarded_length
from medusa.speculation.tree import TokenTree


class LabelStore(Protocol):
    """The labels of a KV cache (`medusa.llama.Context` in production)."""

    def copy_sequence(self, src: int, dst: int, start: int, end: int) -> None:
        """Label the cells of `src` at positions [start, end) with `dst` too."""
        ...

    def remove_sequence(self, seq: int, start: int, end: int = -1) -> None:
        """Take the label `seq` off its cells at positions [start, end); -1: to the end."""
        ...

    def first_position(self, seq: int) -> int:
        """The first position of `seq` that all layers still remember; -1 if it has none."""
        ...

    def sequence_bytes(self, seq: int) -> int:
        """Size of a copy of what is remembered of `seq`."""
        ...

    def save_sequence(self, seq: int) -> np.ndarray:
        """That copy, [size] uint8. Raises DecodeError."""
        ...

    def load_sequence(self, seq: int, state: np.ndarray) -> None:
        """Fill free cells, labelled `seq`, from such a copy; `seq` had none. Raises DecodeError."""
        ...


class SlotLabels:
    """The sequence ids of one slot and how far each is labelled.

    Args:
        store: where the labels live.
        first: the slot's first sequence id, its primary.
        count: how many ids the slot owns: the most leaves a tree may have.
    """

    def __init__(self, store: LabelStore, first: int, count: int) -> None:
        self._store = store
        self._first = first
        self._lengths = [0] * count  # positions [0, length) of each id are labelled

    @property
    def primary(self) -> int:
        """The id that labels all of the slot's tokens between steps."""
        return self._first

    @property
    def length(self) -> int:
        """Tokens of the slot in the KV cache."""
        return self._lengths[0]

    @property
    def first_position(self) -> int:
        """The first position that the model still remembers in every layer."""
        return self._store.first_position(self.primary)

    @property
    def max_leaves(self) -> int:
        """Most leaves a tree may have."""
        return len(self._lengths)

    @property
    def max_depth(self) -> int:
        """Most guesses in a row that can be taken back."""
        return sys.maxsize

    @property
    def can_be_copied(self) -> bool:
        """Whether another slot may take over the tokens now."""
        return True

    def truncate(self, length: int) -> None:
        """Keep the first `length` tokens only."""
        for index in range(len(self._lengths)):
            self._trim(index, length)

    def forget(self) -> None:
        """Know of no tokens any more, whatever the cache holds: it is cleared as a whole."""
        self._lengths = [0] * len(self._lengths)

    def share_prefix(self, source: "SlotLabels", length: int) -> None:
        """Take over the first `length` tokens of another slot; both then hold those cells."""
        self.truncate(0)
        if length:
            self._store.copy_sequence(source.primary, self.primary, 0, length)
        self._lengths[0] = length

    @property
    def state_bytes(self) -> int:
        """Size of what `save` gives."""
        return self._store.sequence_bytes(self.primary)

    def save(self) -> np.ndarray:
        """A copy of what the model remembers of the slot's tokens, [size] uint8.

        Raises:
            DecodeError: it cannot be had.
        """
        return self._store.save_sequence(self.primary)

    def load(self, state: np.ndarray, length: int) -> None:
        """Hold `length` tokens of which the model remembers `state`, in free cells.

        Raises:
            DecodeError: that failed; no tokens are held.
        """
        self.truncate(0)
        self._store.load_sequence(self.primary, state)
        self._lengths[0] = length

    def prefill_ids(self) -> list[int]:
        """The sequence ids that the next tokens of a prompt carry."""
        return [self._first]

    def extend(self, count: int) -> None:
        """Note that `count` tokens were decoded under the ids for prefill."""
        self._lengths[0] += count

    def guard(self) -> None:
        """Before a step: see to it that no cell is taken away that may still be needed."""

    def prepare(self, tree: TokenTree) -> None:
        """Make all ids that a tree carries label all of the slot's tokens."""
        self._follow(self._n_ids(tree))

    def _n_ids(self, tree: TokenTree) -> int:
        return min(len(tree), self.max_leaves)

    def _follow(self, n_ids: int) -> None:
        """Make the first ids label all of the slot's tokens."""
        for index in range(1, n_ids):
            if self._lengths[index] < self.length:
                self._store.copy_sequence(
                    self.primary, self._first + index, self._lengths[index], self.length
                )
                self._lengths[index] = self.length

    def node_ids(self, tree: TokenTree) -> list[list[int]]:
        """The sequence ids that each node of a tree carries."""
        ids = [[self._first + leaf for leaf in leaves] for leaves in tree.leaf_sets]
        ids[0] = list(range(self._first, self._first + self._n_ids(tree)))
        return ids

    def settle(self, tree: TokenTree, path: Sequence[int]) -> None:
        """After decoding `tree`, keep the cells of `path` and free those of all other nodes.

        Args:
            path: accepted nodes from the root down, the root included.
        """
        kept = self.length + len(path)
        shared = [0] * len(tree.leaves)  # accepted nodes that each leaf's id labels
        for node in path:
            for leaf in tree.leaf_sets[node]:
                shared[leaf] += 1
        start = self.length
        for leaf, node in enumerate(tree.leaves):
            self._lengths[leaf] = start + tree.depths[node] + 1
            self._trim(leaf, start + shared[leaf])
        for index in range(len(tree.leaves), self._n_ids(tree)):
            self._lengths[index] = start + 1
        if self._lengths[0] < kept:
            winner = tree.leaf_sets[path[-1]][0]
            self._store.copy_sequence(self._first + winner, self.primary, self._lengths[0], kept)
            self._lengths[0] = kept

    def _trim(self, index: int, length: int) -> None:
        if self._lengths[index] > length:
            self._store.remove_sequence(self._first + index, length)
            self._lengths[index] = length


class GuardedLabels(SlotLabels):
    """Labels on a cache that gives away cells which have left a sliding window.

    A cell with two sequence ids is never given away. So the slot's second id, which is the second
    leaf of its trees, follows the primary one closely enough (`guarded_length`), and prefixes and
    branches work as if there were no windows.

    Args:
        store: where the labels live.
        first: the slot's first sequence id, its primary.
        count: how many ids the slot owns; at least 2.
        window: length of the sliding windows in tokens.
    """

    def __init__(self, store: LabelStore, first: int, count: int, window: int) -> None:
        assert count >= 2
        super().__init__(store, first, count)
        self._window = window

    def prefill_ids(self) -> list[int]:
        """As `SlotLabels.prefill_ids`: both ids, at no label operation."""
        self._follow(2)
        return [self._first, self._first + 1]

    def extend(self, count: int) -> None:
        """As `SlotLabels.extend`."""
        super().extend(count)
        self._lengths[1] += count

    def guard(self) -> None:
        """As `SlotLabels.guard`."""
        if self._lengths[1] < guarded_length(self.length, self._window):
            self._follow(2)


class StateLabels(SlotLabels):
    """The one label of a model whose state cannot go back further than its snapshots.

    To go back by some tokens names the snapshot from which the next decode starts
    (`llama_memory_recurrent::seq_rm`); until then llama.cpp would copy another state.

    Args:
        store: where the labels live.
        first: the slot's sequence id.
        rollback: how many tokens of the last decode can be taken back.
    """

    def __init__(self, store: LabelStore, first: int, rollback: int) -> None:
        super().__init__(store, first, 1)
        self._rollback = rollback
        self._is_rolled_back = False

    @property
    def max_depth(self) -> int:
        """As `SlotLabels.max_depth`."""
        return self._rollback

    @property
    def can_be_copied(self) -> bool:
        """As `SlotLabels.can_be_copied`."""
        return not self._is_rolled_back

    def extend(self, count: int) -> None:
        """As `SlotLabels.extend`."""
        super().extend(count)
        self._is_rolled_back = False

    def settle(self, tree: TokenTree, path: Sequence[int]) -> None:
        """As `SlotLabels.settle`."""
        super().settle(tree, path)
        self._is_rolled_back = len(path) < len(tree)

    def truncate(self, length: int) -> None:
        """As `SlotLabels.truncate`: all or nothing."""
        assert length in (0, self.length)
        super().truncate(length)
        self._is_rolled_back &= length > 0

    def forget(self) -> None:
        """As `SlotLabels.forget`."""
        super().forget()
        self._is_rolled_back = False


def make_labels(store: LabelStore, index: int, rules: MemoryRules) -> SlotLabels:
    """The labels of a slot, by its index."""
    first = index * rules.ids
    if not rules.can_truncate:
        return StateLabels(store, first, rules.rollback)
    if rules.is_guarded:
        return GuardedLabels(store, first, rules.ids, rules.window)
    return SlotLabels(store, first, rules.ids)
