from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from medusa.engine.kv_labels import GuardedLabels, SlotLabels
from medusa.errors import DecodeError
from medusa.speculation.tree import TokenTree
from tests.medusa.speculation.test_tree import parent_lists

LEAVES = 4
WINDOW = 3

Masked = Callable[[int, int], bool]


def slides(position: int, reader: int) -> bool:
    """LLAMA_SWA_TYPE_STANDARD of `llama_hparams::is_masked_swa`."""
    return reader - position >= WINDOW


def is_chunked(position: int, reader: int) -> bool:
    """LLAMA_SWA_TYPE_CHUNKED."""
    return position < reader // WINDOW * WINDOW


class FakeCache:
    """A KV cache as llama.cpp keeps it: cells with a position, a token and labels.

    Args:
        n_cells: how many there are.
    """

    def __init__(self, n_cells: int = 1_000_000) -> None:
        self.n_cells = n_cells
        self.cells: list[tuple[int, int, set[int]]] = []

    def add(self, position: int, token: int, seqs: Sequence[int]) -> None:
        self.cells.append((position, token, set(seqs)))

    def copy_sequence(self, src: int, dst: int, start: int, end: int) -> None:
        for position, _, labels in self.cells:
            if src in labels and start <= position < end:
                labels.add(dst)

    def remove_sequence(self, seq: int, start: int, end: int = -1) -> None:
        for position, _, labels in self.cells:
            if position >= start and (end < 0 or position < end):
                labels.discard(seq)
        self.cells = [cell for cell in self.cells if cell[2]]

    def first_position(self, seq: int) -> int:
        return min((p for p, _, labels in self.cells if seq in labels), default=-1)

    def sequence_bytes(self, seq: int) -> int:
        return 8 * len(self.text(seq))

    def save_sequence(self, seq: int) -> np.ndarray:
        return np.array(self.text(seq), np.int64).view(np.uint8)

    def load_sequence(self, seq: int, state: np.ndarray) -> None:
        tokens = state.view(np.int64).tolist()
        if len(self.cells) + len(tokens) > self.n_cells:
            raise DecodeError("no free cells")
        assert not self.text(seq)
        for position, token in enumerate(tokens):
            self.add(position, token, [seq])

    def text(self, seq: int) -> list[int]:
        """Tokens that a sequence sees; positions must be 0, 1, 2, ..."""
        seen = sorted((p, t) for p, t, labels in self.cells if seq in labels)
        assert [p for p, _ in seen] == list(range(len(seen)))
        return [t for _, t in seen]


class GreedyCache(FakeCache):
    """One that gives away every cell that llama.cpp might (`llama_kv_cache::find_slot`).

    Args:
        is_masked: whether the token at the second position cannot see the first any more.
    """

    def __init__(self, is_masked: Masked) -> None:
        super().__init__()
        self._is_masked = is_masked

    def give_away(self) -> None:
        """As before a decode. Who loses a cell loses all that are older."""
        lost: dict[int, int] = {}
        for position, _, labels in self.cells:
            if len(labels) == 1:
                (seq,) = labels
                newest = max(p for p, _, others in self.cells if seq in others)
                if self._is_masked(position, newest + 1):
                    lost[seq] = max(lost.get(seq, 0), position)
        for seq, newest in lost.items():
            self.remove_sequence(seq, 0, newest + 1)


class TwoSlots(RuleBasedStateMachine):
    """Random use of two slots that share a cache, checked after every step."""

    @initialize()
    def start(self) -> None:
        self.cache = FakeCache()
        self.slots = [SlotLabels(self.cache, slot * LEAVES, LEAVES) for slot in range(2)]
        self.texts: list[list[int]] = [[], []]
        self.next_token = 0

    def _before_decode(self) -> None:
        """What happens before the cells of a step are chosen."""

    def _fresh(self) -> int:
        self.next_token += 1
        return self.next_token

    @rule(slot=st.integers(0, 1), count=st.integers(1, 4))
    def prefill(self, slot: int, count: int) -> None:
        self._before_decode()
        ids = self.slots[slot].prefill_ids()
        assert all(self.cache.text(seq) == self.texts[slot] for seq in ids), "they must be alike"
        for _ in range(count):
            token = self._fresh()
            self.cache.add(len(self.texts[slot]), token, ids)
            self.texts[slot].append(token)
        self.slots[slot].extend(count)

    @rule(slot=st.integers(0, 1), parents=parent_lists(), data=st.data())
    def decode(self, slot: int, parents: tuple[int, ...], data: st.DataObject) -> None:
        tree = TokenTree(tuple(self._fresh() for _ in parents), parents)
        if len(tree.leaves) > LEAVES:
            return
        self._before_decode()
        labels, text = self.slots[slot], self.texts[slot]
        labels.prepare(tree)
        ids = labels.node_ids(tree)
        for seq in ids[0]:
            assert self.cache.text(seq) == text, "ids of one row must be alike"
        for token, depth, seqs in zip(tree.tokens, tree.depths, ids, strict=True):
            self.cache.add(len(text) + depth, token, seqs)
        for leaf, node in enumerate(tree.leaves):
            branch = []
            while node >= 0:
                branch.append(tree.tokens[node])
                node = parents[node]
            assert self.cache.text(labels.primary + leaf) == text + branch[::-1]
        path = [0]
        while data.draw(st.booleans()):
            below = [n for n, parent in enumerate(parents) if parent == path[-1]]
            if not below:
                break
            path.append(data.draw(st.sampled_from(below)))
        labels.settle(tree, path)
        text.extend(tree.tokens[node] for node in path)

    @rule(slot=st.integers(0, 1), data=st.data())
    def truncate(self, slot: int, data: st.DataObject) -> None:
        length = data.draw(st.integers(0, len(self.texts[slot])))
        self.slots[slot].truncate(length)
        del self.texts[slot][length:]

    @rule(taker=st.integers(0, 1), data=st.data())
    def share(self, taker: int, data: st.DataObject) -> None:
        source = 1 - taker
        length = data.draw(st.integers(0, len(self.texts[source])))
        self.slots[taker].share_prefix(self.slots[source], length)
        self.texts[taker] = self.texts[source][:length]

    @precondition(lambda self: hasattr(self, "slots"))
    @invariant()
    def primaries_label_exactly_the_slots_tokens(self) -> None:
        for slot, text in zip(self.slots, self.texts, strict=True):
            assert slot.length == len(text)
            assert self.cache.text(slot.primary) == text

    @precondition(lambda self: hasattr(self, "slots"))
    @invariant()
    def nothing_else_keeps_a_cell_alive(self) -> None:
        for slot, text in zip(self.slots, self.texts, strict=True):
            for index in range(1, LEAVES):
                branch = self.cache.text(slot.primary + index)
                assert branch == text[: len(branch)]
        held = {token for text in self.texts for token in text}
        assert {token for _, token, _ in self.cache.cells} == held


class TwoGuardedSlots(TwoSlots):
    """The same with windows, on a cache that gives away all it may: nobody must notice."""

    @initialize(is_masked=st.sampled_from([slides, is_chunked]))
    def start(self, is_masked: Masked) -> None:
        super().start()
        self.cache = self.greedy = GreedyCache(is_masked)
        self.slots = [GuardedLabels(self.cache, slot * LEAVES, LEAVES, WINDOW) for slot in range(2)]

    def _before_decode(self) -> None:
        for slot in self.slots:
            slot.guard()
        self.greedy.give_away()


TestTwoSlots = TwoSlots.TestCase
TestTwoGuardedSlots = TwoGuardedSlots.TestCase


def test_guards_are_lazy() -> None:
    """A label operation scans the whole cache: there is one in a window's length."""
    cache = FakeCache()
    copies = []
    cache.copy_sequence = lambda *place: copies.append(place)  # type: ignore[method-assign]
    labels = GuardedLabels(cache, 0, 2, window=10)
    for _ in range(95):
        labels.guard()
        labels.settle(TokenTree.root_only(7), [0])
    assert copies == [(0, 1, start, start + 10) for start in range(0, 90, 10)]


@given(parents=parent_lists())
def test_a_tree_carries_as_many_ids_as_it_has_nodes(parents: tuple[int, ...]) -> None:
    tree = TokenTree(tuple(range(len(parents))), parents)
    labels = SlotLabels(FakeCache(), 40, len(tree))
    ids = labels.node_ids(tree)
    assert {i for seqs in ids for i in seqs} == set(range(40, 40 + len(tree)))
    assert ids[1:] == [[40 + leaf for leaf in leaves] for leaves in tree.leaf_sets[1:]]


@given(parents=parent_lists())
def test_a_slot_of_fewer_ids_gives_all(parents: tuple[int, ...]) -> None:
    tree = TokenTree(tuple(range(len(parents))), parents)
    labels = SlotLabels(FakeCache(), 40, len(tree.leaves))
    ids = labels.node_ids(tree)
    assert {i for seqs in ids for i in seqs} == set(range(40, 40 + len(tree.leaves)))
