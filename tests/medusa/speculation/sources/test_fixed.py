import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.speculation.growth import TreeGrowth, TreeRequest
from medusa.speculation.sources.fixed import FixedSource
from medusa.speculation.tree import Choice, StaticShape, TokenTree, TreeLimits
from tests.medusa.speculation.drafts import ROOMY, grow_fully, limits, paths
from tests.medusa.speculation.fakes import N_VOCAB, FakeHeads, wanted

RANKS = 10  # tokens of head k are 10 k, 10 k + 1 ..., the best first


def heads(n_heads: int, top_k: int) -> FakeHeads:
    tokens = [[RANKS * head + rank for rank in range(top_k)] for head in range(n_heads)]
    return FakeHeads(tokens=tokens, probs=np.zeros((n_heads, top_k)).tolist())


def grown(heads: FakeHeads, shape: StaticShape, limits: TreeLimits) -> TokenTree:
    """The largest tree that the shape allows."""
    (draft,) = FixedSource(heads, shape).propose([wanted([7])])
    assert draft is not None
    growth = TreeGrowth(TreeRequest(7, limits, [draft]))
    assert set(grow_fully(growth)) <= {1.0}
    return growth.tree()


def choices_of(tree: TokenTree) -> list[Choice]:
    return [tuple(token % RANKS for token in path) for path in paths(tree)]


@st.composite
def shapes(draw: st.DrawFn) -> StaticShape:
    """Any valid shape, its choices in any order."""
    choices: list[Choice] = []
    for _ in range(draw(st.integers(0, 14))):
        parent = draw(st.sampled_from([(), *choices]))
        choices.append((*parent, draw(st.integers(0, 3))))
    return StaticShape(tuple(draw(st.permutations(sorted(set(choices))))))


counts = st.integers(1, 5)


@given(n_heads=counts, top_k=counts, limits=limits, shape=shapes())
def test_a_shape_respects_the_limits(
    n_heads: int, top_k: int, limits: TreeLimits, shape: StaticShape
) -> None:
    tree = grown(heads(n_heads, top_k), shape, limits)
    choices = choices_of(tree)
    assert len(choices) == len(set(choices)) <= limits.max_nodes
    assert len(tree.leaves) <= limits.max_leaves
    assert max(tree.depths) <= min(limits.max_depth, n_heads)
    assert set(choices) <= set(shape.choices)
    assert all(max(choice) < top_k for choice in choices)
    assert choices == sorted(choices, key=lambda choice: (len(choice), choice))


@given(n_heads=counts, top_k=counts, shape=shapes())
def test_without_limits_a_shape_takes_all_that_the_heads_can_fill(
    n_heads: int, top_k: int, shape: StaticShape
) -> None:
    fillable = {c for c in shape.choices if len(c) <= n_heads and max(c) < top_k}
    assert set(choices_of(grown(heads(n_heads, top_k), shape, ROOMY))) == fillable


def test_a_shape_is_filled_with_the_heads_tokens() -> None:
    shape = StaticShape(((0,), (1,), (0, 2), (1, 0)))
    tree = grown(heads(2, 3), shape, ROOMY)
    assert tree == TokenTree((7, 0, 1, 12, 10), (-1, 0, 0, 1, 2))


def test_a_choice_that_is_named_twice_is_taken_once() -> None:
    shape = StaticShape(((0,), (0,), (0, 1), (0, 1)))
    assert grown(heads(2, 2), shape, ROOMY) == TokenTree((7, 0, 11), (-1, 0, 1))


@pytest.mark.parametrize("wrong", [-1, N_VOCAB])
def test_tokens_outside_the_vocabulary_are_left_out(wrong: int) -> None:
    fake = FakeHeads(tokens=[[11, wrong], [21, 22]])
    shape = StaticShape(((0,), (1,), (1, 0), (0, 0)))
    assert grown(fake, shape, ROOMY) == TokenTree((7, 11, 21), (-1, 0, 1))
