from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from medusa.speculation.calibration import BINS
from medusa.speculation.drafter import Drafter, Memory, Wanted
from medusa.speculation.heads.header import HeadsHeader, Variant
from medusa.speculation.tree import Proposals, StaticShape, TokenTree

REPEATING = (1, 2, 3, 4, 5, 1, 2)  # 3, 4, 5 may come next
NEW = (1, 2, 3, 4, 5)


class Free:
    change_seconds = 0.0

    def seconds(self, n_tokens: int) -> float:
        return 1.0


class FakeHeads:
    """Two heads that always guess the same: 11 or 12, then 21 or 22."""

    def __init__(self, variant: Variant = Variant.SHARED, counts: np.ndarray | None = None) -> None:
        self.header = HeadsHeader(variant, 2, 1, 4, 100, "tiny", "0", calibration=counts)
        self.roots: list[list[int]] = []

    def propose(self, hidden: np.ndarray, roots: np.ndarray) -> list[Proposals]:
        assert hidden.shape == (len(roots), 4)
        self.roots.append(roots.tolist())
        tokens = np.array([[11, 12], [21, 22]], np.int32)
        probs = np.array([[0.5, 0.25], [0.5, 0.25]], np.float32)
        return [Proposals(tokens, probs) for _ in roots]


class FakeTimer:
    def __init__(self) -> None:
        self.n_blocks = 0

    @contextmanager
    def heads(self) -> Iterator[None]:
        self.n_blocks += 1
        yield


def wanted(
    tokens: Sequence[int],
    memory: Memory | None = None,
    *,
    max_leaves: int = 10,
    max_depth: int = 10,
) -> Wanted:
    hidden = np.zeros(4, np.float32)
    return Wanted(tokens, hidden, memory or Memory(), max_leaves, max_depth)


def draft_one(drafter: Drafter, request: Wanted) -> TokenTree:
    (tree,) = drafter.draft([request], FakeTimer())
    return tree


def chances_of(drafter: Drafter) -> np.ndarray:
    """[n_heads, ranks]: how far the drafter believes FakeHeads' guesses."""
    (proposals,) = FakeHeads().propose(np.zeros((1, 4), np.float32), np.zeros(1, np.int32))
    return np.array(drafter._calibrated(proposals).estimate(proposals.probs.tolist()))


def watch(drafter: Drafter, accepted: Sequence[int], times: int = 50) -> None:
    """Draft for a new text, then let the model choose `accepted`, again and again."""
    for _ in range(times):
        memory = Memory()
        draft_one(drafter, wanted(NEW, memory))
        drafter.observe(memory, accepted)


def test_every_request_gets_a_tree_of_its_own_root() -> None:
    heads, timer = FakeHeads(), FakeTimer()
    drafter = Drafter(heads, Free(), 8)
    assert drafter.draft([], timer) == []
    trees = drafter.draft([wanted(NEW), wanted((7, 8, 9))], timer)
    assert [tree.tokens[0] for tree in trees] == [5, 9]
    assert sum(tree.n_drafts for tree in trees) == 8
    assert heads.roots == [[5, 9]], "all requests in one call"
    assert timer.n_blocks == 1


@pytest.mark.parametrize("max_nodes", [0, 1, 3, 8])
def test_the_nodes_are_shared_by_all_requests(max_nodes: int) -> None:
    drafter = Drafter(FakeHeads(), Free(), max_nodes)
    trees = drafter.draft([wanted(NEW), wanted(REPEATING), wanted(NEW)], FakeTimer())
    assert sum(tree.n_drafts for tree in trees) == max_nodes


def test_a_request_limits_its_own_tree() -> None:
    drafter = Drafter(FakeHeads(), Free(), 20)
    chain = draft_one(drafter, wanted(REPEATING, max_leaves=1))
    assert len(chain.leaves) == 1
    assert chain.n_drafts > 1
    flat = draft_one(drafter, wanted(REPEATING, max_depth=1))
    assert max(flat.depths) == 1
    assert draft_one(drafter, wanted(REPEATING, max_depth=0)) == TokenTree.root_only(2)


def test_heads_and_lookup_meet_in_one_tree() -> None:
    tree = draft_one(Drafter(FakeHeads(), Free(), 50), wanted(REPEATING, max_depth=3))
    assert tree.child(0, 11) is not None
    copied = tree.child(0, 3)
    assert copied is not None
    assert tree.child(copied, 4) is not None


def test_without_heads_only_lookup_drafts() -> None:
    drafter = Drafter(None, Free(), 4)
    timer = FakeTimer()
    trees = drafter.draft([wanted(REPEATING), wanted(NEW)], timer)
    assert trees == [TokenTree((2, 3, 4, 5, 1), (-1, 0, 1, 2, 3)), TokenTree.root_only(5)]
    assert timer.n_blocks == 0


def test_without_lookup_only_heads_draft() -> None:
    tree = draft_one(Drafter(FakeHeads(), Free(), 50, lookup=False), wanted(REPEATING))
    assert set(tree.tokens) == {2, 11, 12, 21, 22}


def test_with_neither_nothing_is_drafted() -> None:
    drafter = Drafter(None, Free(), 8, lookup=False)
    memory = Memory()
    assert draft_one(drafter, wanted(REPEATING, memory)) == TokenTree.root_only(2)
    drafter.observe(memory, [3])


def test_a_static_shape_ignores_lookup_and_chances() -> None:
    shape = StaticShape(((1,), (0,), (1, 0)))
    drafter = Drafter(FakeHeads(), Free(), 8, shape=shape)
    memory = Memory()
    tree = draft_one(drafter, wanted(REPEATING, memory))
    assert tree == TokenTree((2, 11, 12, 21), (-1, 0, 0, 2))
    drafter.observe(memory, [12, 21])
    assert draft_one(drafter, wanted(REPEATING, memory)) == tree
    assert draft_one(drafter, wanted(REPEATING, max_depth=1)).n_drafts == 2


def test_a_static_shape_without_heads_has_nothing_to_draft() -> None:
    drafter = Drafter(None, Free(), 8, shape=StaticShape(((0,),)))
    assert draft_one(drafter, wanted(REPEATING)) == TokenTree.root_only(2)


def test_only_new_tokens_are_looked_at_in_the_next_step() -> None:
    drafter = Drafter(None, Free(), 4)
    memory = Memory()
    text = list(NEW)
    for token in (1, 2, 3):
        text.append(token)
        tree = draft_one(drafter, wanted(text, memory))
        drafter.observe(memory, [token + 1])
        assert len(memory.lookup) == len(text)
    assert tree.tokens[:3] == (3, 4, 5)


def test_counts_that_come_with_the_heads_decide_what_is_likely() -> None:
    hits = np.zeros((2, 6, BINS))
    hits[:, 1] = 900  # the second guess is usually right
    counts = np.stack([hits, np.full_like(hits, 1000)])
    drafter = Drafter(FakeHeads(counts=counts), Free(), 8, lookup=False)
    assert chances_of(drafter)[:, 1] == pytest.approx([0.9, 0.9], abs=0.02)
    assert (chances_of(drafter)[:, 0] < 0.02).all()


def test_the_likeliest_guess_is_drafted_first_whatever_its_rank() -> None:
    hits = np.zeros((2, 6, BINS))
    hits[:, 1] = 900
    counts = np.stack([hits, np.full_like(hits, 1000)])
    drafter = Drafter(FakeHeads(counts=counts), Free(), 1, lookup=False)
    assert draft_one(drafter, wanted(NEW)).tokens == (5, 12)


@pytest.mark.parametrize("variant", list(Variant))
def test_guesses_that_prove_right_are_believed_more(variant: Variant) -> None:
    drafter = Drafter(FakeHeads(variant), Free(), 8)
    before = chances_of(drafter)
    watch(drafter, [11, 22, 30])
    after = chances_of(drafter)
    assert after[0, 0] > before[0, 0] + 0.2
    assert after[1, 1] > before[1, 1] + 0.2
    assert after[0, 1] < before[0, 1]
    assert after[1, 0] < before[1, 0]


@pytest.mark.parametrize("variant", list(Variant))
def test_hydra_heads_are_judged_along_the_best_path_only(variant: Variant) -> None:
    """Head 2 guessed what follows token 11; that 12 came instead says nothing of it."""
    drafter = Drafter(FakeHeads(variant), Free(), 8)
    before = chances_of(drafter)
    watch(drafter, [12, 21])
    after = chances_of(drafter)
    assert after[0, 0] < before[0, 0]
    assert after[0, 1] > before[0, 1]
    if variant is Variant.HYDRA:
        np.testing.assert_array_equal(after[1], before[1])
    else:
        assert after[1, 0] > before[1, 0]


def test_heads_are_judged_no_further_than_the_model_went() -> None:
    drafter = Drafter(FakeHeads(), Free(), 8)
    before = chances_of(drafter)
    watch(drafter, [11])
    after = chances_of(drafter)
    assert after[0, 0] > before[0, 0]
    np.testing.assert_array_equal(after[1], before[1])


def test_heads_are_judged_once_for_every_step() -> None:
    drafter = Drafter(FakeHeads(), Free(), 8)
    memory = Memory()
    draft_one(drafter, wanted(NEW, memory))
    drafter.observe(memory, [11])
    once = chances_of(drafter)
    drafter.observe(memory, [99])
    np.testing.assert_array_equal(chances_of(drafter), once)


def lookup_chances(memory: Memory) -> tuple[float, ...]:
    found = memory.lookup.continuation(3)
    assert found is not None
    return found.chances


def test_lookups_are_judged_up_to_the_first_wrong_token() -> None:
    drafter = Drafter(None, Free(), 8)
    memory = Memory()
    draft_one(drafter, wanted(REPEATING, memory))
    before = lookup_chances(memory)
    drafter.observe(memory, [3, 9, 9])
    after = lookup_chances(memory)
    assert after[0] > before[0]
    assert after[1] < before[1]
    assert after[2] == before[2]


def test_a_lookup_is_judged_once_and_in_its_own_request() -> None:
    drafter = Drafter(None, Free(), 8)
    memory, other = Memory(), Memory()
    for request in (memory, other):
        draft_one(drafter, wanted(REPEATING, request))
    before = lookup_chances(other)
    drafter.observe(memory, [9])
    once = lookup_chances(memory)
    assert once[0] < before[0]
    drafter.observe(memory, [9])
    assert lookup_chances(memory) == once
    assert lookup_chances(other) == before
