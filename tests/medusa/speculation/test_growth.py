import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.sampling.constraints import ConstraintFailedError
from medusa.speculation.growth import TreeGrowth, TreeRequest
from medusa.speculation.sources.heads import HeadsDraft
from medusa.speculation.tree import TokenTree, TreeLimits
from tests.medusa.speculation.drafts import (
    ROOMY,
    ROOT,
    Copy,
    Guesses,
    all_nodes,
    chances,
    copies,
    grow_fully,
    growth_of,
    guesses,
    limits,
    paths,
    request_of,
)


@given(
    limits=limits,
    guesses=st.none() | guesses(),
    copy=st.none() | copies(),
)
def test_any_growth_gives_a_tree_within_its_limits(
    limits: TreeLimits, guesses: Guesses | None, copy: Copy | None
) -> None:
    growth = growth_of(limits, guesses, copy)
    assert growth.tree() == TokenTree.root_only(ROOT)
    added = grow_fully(growth)
    tree = growth.tree()
    assert tree.tokens[0] == ROOT
    assert tree.n_drafts == len(added) <= limits.max_nodes
    assert len(tree.leaves) <= limits.max_leaves
    assert max(tree.depths) <= limits.max_depth
    assert len(set(paths(tree))) == tree.n_drafts, "siblings guess the same token"
    assert set(paths(tree)) <= set(all_nodes(guesses, copy))
    assert all(0 < chance <= 1 for chance in added)


@given(limits=limits, guesses=guesses())
def test_the_heads_nodes_are_added_in_falling_chance(limits: TreeLimits, guesses: Guesses) -> None:
    growth = growth_of(limits, guesses)
    added = grow_fully(growth)
    assert added == sorted(added, reverse=True)
    everything = all_nodes(guesses)
    assert [everything[path] for path in paths(growth.tree())] == pytest.approx(added)


@given(limits=limits, copy=copies())
def test_a_copy_alone_is_a_chain(limits: TreeLimits, copy: Copy) -> None:
    growth = growth_of(limits, copy=copy)
    added = grow_fully(growth)
    length = min(len(copy.tokens), limits.max_nodes, limits.max_depth)
    tree = growth.tree()
    assert tree.tokens == (ROOT, *copy.tokens[:length])
    assert tree.parents == tuple(range(-1, length))
    products = itertools.accumulate(copy.chances[:length], lambda a, b: a * b)
    assert added == pytest.approx(list(products))


@given(guesses=guesses(), copy=copies())
def test_without_limits_every_possible_node_is_added_once(guesses: Guesses, copy: Copy) -> None:
    growth = growth_of(ROOMY, guesses, copy)
    grow_fully(growth)
    assert sorted(paths(growth.tree())) == sorted(all_nodes(guesses, copy))


@given(guesses=guesses(), count=st.integers(0, 12))
def test_the_likeliest_nodes_are_added_first(guesses: Guesses, count: int) -> None:
    growth = growth_of(TreeLimits(count, 1000, 1000), guesses)
    added = grow_fully(growth)
    assert added == pytest.approx(heapq.nlargest(count, all_nodes(guesses).values()))


def test_a_copy_of_the_heads_best_path_shares_its_nodes() -> None:
    guesses = Guesses([[1, 2], [3, 4]], [[0.5, 0.2], [0.4, 0.1]], chained=True)
    growth = growth_of(ROOMY, guesses, Copy((1, 3, 5), (0.9, 0.8, 0.7)))
    grow_fully(growth)
    assert sorted(paths(growth.tree())) == [(1,), (1, 3), (1, 3, 5), (1, 4), (2,)]


@given(guesses=guesses(), data=st.data())
def test_a_copy_of_the_heads_best_path_adds_nothing(guesses: Guesses, data: st.DataObject) -> None:
    best = tuple(row[0] for row in guesses.tokens)
    copy = Copy(best, tuple(data.draw(chances) for _ in best))
    growth = growth_of(ROOMY, guesses, copy)
    grow_fully(growth)
    assert sorted(paths(growth.tree())) == sorted(all_nodes(guesses))


def test_a_node_that_heads_and_lookup_share_is_wrong_only_if_both_are() -> None:
    guesses = Guesses([[1, 2]], [[0.5, 0.2]], chained=False)
    growth = growth_of(ROOMY, guesses, Copy((1,), (0.9,)))
    assert grow_fully(growth) == pytest.approx([0.95, 0.02])


def test_a_copy_that_is_certain_leaves_nothing_to_other_guesses() -> None:
    guesses = Guesses([[1, 2]], [[0.7, 0.3]], chained=False)
    growth = growth_of(ROOMY, guesses, Copy((1,), (1.0,)))
    assert grow_fully(growth) == [1.0]


def test_a_copied_node_lets_the_heads_guesses_below_it_in_at_once() -> None:
    """The second head's guess is as likely as the copied node that it follows."""
    guesses = Guesses([[1, 2], [3, 4]], [[0.1, 0.05], [0.9, 0.02]], chained=False)
    growth = growth_of(TreeLimits(2, 10, 10), guesses, Copy((1, 5), (0.9, 0.2)))
    assert grow_fully(growth) == pytest.approx([0.91, 0.91 * 0.9])
    assert paths(growth.tree()) == [(1,), (1, 3)]


@given(guesses=guesses(max_heads=2, max_rank=3), copy=copies(max_size=3))
def test_whatever_is_shared_nodes_are_added_in_falling_chance(guesses: Guesses, copy: Copy) -> None:
    added = grow_fully(growth_of(ROOMY, guesses, copy))
    assert added == sorted(added, reverse=True)


@given(guesses=guesses())
def test_chained_guesses_have_children_below_the_best_path_only(guesses: Guesses) -> None:
    chained = Guesses(guesses.tokens, guesses.chances, chained=True)
    growth = growth_of(ROOMY, chained)
    grow_fully(growth)
    best = tuple(row[0] for row in guesses.tokens)
    for path in paths(growth.tree()):
        assert path[:-1] == best[: len(path) - 1]
    assert growth.tree().n_drafts == sum(map(len, guesses.tokens))


def test_a_copy_off_the_best_path_opens_no_chained_guesses() -> None:
    guesses = Guesses([[1, 2], [3, 4]], [[0.5, 0.2], [0.4, 0.1]], chained=True)
    growth = growth_of(ROOMY, guesses, Copy((2, 6), (0.9, 0.9)))
    grow_fully(growth)
    below_two = [path for path in paths(growth.tree()) if path[:1] == (2,)]
    assert below_two == [(2,), (2, 6)]


def test_impossible_guesses_are_not_added() -> None:
    guesses = Guesses([[1, 2]], [[0.5, 0.0]], chained=False)
    growth = growth_of(ROOMY, guesses, Copy((3,), (0.0,)))
    assert grow_fully(growth) == [0.5]


def test_without_guesses_nothing_grows() -> None:
    growth = growth_of(ROOMY)
    assert growth.chance == 0
    assert growth.tree() == TokenTree.root_only(ROOT)


@dataclass
class Alternating:
    """Even tokens, then odd ones, and so on; after a 7, only 40 and then 41."""

    last: int = ROOT

    def mask(self, row: np.ndarray) -> None:
        raise AssertionError("growing needs no masks")

    def accept(self, token: int) -> None:
        assert self.allows(token)
        self.last = token

    def forced(self) -> Sequence[int]:
        return {7: (40, 41), 40: (41,)}.get(self.last, ())

    def allows(self, token: int) -> bool:
        forced = self.forced()
        return token == forced[0] if forced else (token + self.last) % 2 == 1

    def fork(self) -> "Alternating":
        return replace(self)


def under_a_constraint(guesses: Guesses, limits: TreeLimits = ROOMY) -> TreeGrowth:
    request = replace(request_of(limits, guesses), constraint=Alternating())
    return TreeGrowth(request)


def test_what_a_constraint_forbids_is_never_a_node_and_its_chance_goes_to_the_others() -> None:
    growth = under_a_constraint(Guesses([[3, 6, 5]], [[0.3, 0.5, 0.1]], chained=False))
    assert growth.chance == pytest.approx(0.3 / 0.5)
    grow_fully(growth)
    assert paths(growth.tree()) == [(3,), (5,)]


def test_what_a_constraint_forces_is_certain_and_goes_on_where_the_guesses_end() -> None:
    growth = under_a_constraint(Guesses([[7, 3], [8, 2]], [[0.6, 0.2], [0.5, 0.4]], False))
    added = grow_fully(growth)
    assert sorted(paths(growth.tree())) == [(3,), (3, 2), (3, 8), (7,), (7, 40), (7, 40, 41)]
    assert added[:3] == pytest.approx([0.6, 0.6, 0.6])


def test_a_guess_that_only_bans_make_certain_is_not_verified_at_any_price() -> None:
    growth = under_a_constraint(Guesses([[3, 6]], [[0.25, 0.75]], chained=False))
    assert 0.9 < growth.chance < 1.0


@given(guesses=guesses(), limits=limits)
def test_every_path_of_a_constrained_tree_is_lawful(guesses: Guesses, limits: TreeLimits) -> None:
    growth = under_a_constraint(guesses, limits)
    grow_fully(growth)
    tree = growth.tree()
    assert tree.n_drafts <= limits.max_nodes
    assert len(tree.leaves) <= limits.max_leaves
    for path in paths(tree):
        walker = Alternating()
        for token in path:
            walker.accept(token)


@dataclass(frozen=True)
class NamedDraft(HeadsDraft):
    """Guesses of another source than the heads."""

    source: str = ""


class Fragile(Alternating):
    """Cannot go on behind a 7, which only shows there."""

    def accept(self, token: int) -> None:
        if token == 7:
            raise ConstraintFailedError("too complex")
        super().accept(token)

    def fork(self) -> "Fragile":
        return replace(self)


def test_where_a_constraint_cannot_go_on_guesses_end() -> None:
    guesses = Guesses([[7, 3], [8, 2]], [[0.6, 0.2], [0.5, 0.4]], chained=False)
    growth = TreeGrowth(replace(request_of(ROOMY, guesses), constraint=Fragile()))
    grow_fully(growth)
    assert sorted(paths(growth.tree())) == [(3,), (3, 2), (3, 8), (7,)]


def test_a_tree_tells_who_guessed_each_node() -> None:
    """Where two guess the same, the later one's word goes first; what is forced is nobody's."""
    heads = Guesses([[1, 2]], [[0.4, 0.3]], chained=False).draft()
    copy = NamedDraft([{2: 0.5}, {3: 0.5}], source="lookup")
    growth = TreeGrowth(TreeRequest(ROOT, ROOMY, [heads, copy]))
    grow_fully(growth)
    tree = growth.tree()
    assert dict(zip(paths(tree), tree.sources, strict=True)) == {
        (1,): "heads",
        (2,): "lookup",
        (1, 3): "lookup",
        (2, 3): "lookup",
    }
    assert growth.tree(2).sources == tree.sources[:2]


def test_what_a_grammar_forces_is_its_own_guess() -> None:
    growth = under_a_constraint(Guesses([[7], [8, 2]], [[0.6], [0.5, 0.4]], chained=False))
    grow_fully(growth)
    tree = growth.tree()
    assert dict(zip(paths(tree), tree.sources, strict=True)) == {
        (7,): "heads",
        (7, 40): "grammar",
        (7, 40, 41): "grammar",
    }
