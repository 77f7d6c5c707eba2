from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.speculation.tree import (
    Choice,
    Proposals,
    StaticShape,
    TokenTree,
    TreeLimits,
    build_tree,
)

limits = st.builds(
    TreeLimits,
    max_nodes=st.integers(0, 12),
    max_leaves=st.integers(1, 6),
    max_depth=st.integers(0, 6),
)


@st.composite
def probabilities(draw: Callable[..., object]) -> np.ndarray:
    """[n_heads, top_k], every row descending and summing to at most 1."""
    n_heads, top_k = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    raw = draw(
        st.lists(
            st.lists(st.floats(0, 1, width=32), min_size=top_k, max_size=top_k),
            min_size=n_heads,
            max_size=n_heads,
        )
    )
    rows = -np.sort(-np.array(raw, np.float32), axis=1)
    return rows / np.maximum(1, rows.sum(axis=1, keepdims=True))


@st.composite
def parent_lists(draw: Callable[..., int]) -> tuple[int, ...]:
    size = draw(st.integers(1, 12))
    return (-1, *(draw(st.integers(0, node - 1)) for node in range(1, size)))


def n_leaves(choices: list[Choice]) -> int:
    inner = {choice[:-1] for choice in choices}
    return max(1, sum(choice not in inner for choice in choices))


@st.composite
def shapes(draw: Callable[..., object]) -> StaticShape:
    """Any valid shape, its choices in any order."""
    choices: list[Choice] = []
    for _ in range(draw(st.integers(0, 14))):
        parent = draw(st.sampled_from([(), *choices]))
        choices.append((*parent, draw(st.integers(0, 3))))
    return StaticShape(tuple(draw(st.permutations(sorted(set(choices))))))


@given(probs=probabilities(), limits=limits, shape=shapes())
def test_a_shape_respects_its_limits_and_puts_parents_first(
    probs: np.ndarray, limits: TreeLimits, shape: StaticShape
) -> None:
    choices = shape.choose(probs, limits)
    assert len(choices) == len(set(choices)) <= limits.max_nodes
    assert n_leaves(choices) <= limits.max_leaves
    for index, choice in enumerate(choices):
        assert choice in shape.choices
        assert 1 <= len(choice) <= min(limits.max_depth, len(probs))
        assert max(choice) < probs.shape[1]
        assert choice[:-1] == () or choice[:-1] in choices[:index]


@given(probs=probabilities(), shape=shapes())
def test_without_limits_a_shape_takes_all_that_the_heads_can_fill(
    probs: np.ndarray, shape: StaticShape
) -> None:
    n_heads, top_k = probs.shape
    fillable = {c for c in shape.choices if len(c) <= n_heads and max(c) < top_k}
    assert set(shape.choose(probs, TreeLimits(100, 100, 100))) == fillable


@pytest.mark.parametrize("choices", [[()], [(-1,)], [(0, 0)], [(0,), (1, 2)]])
def test_malformed_static_trees_are_refused(choices: list[Choice]) -> None:
    with pytest.raises(ValueError, match="tree choice"):
        StaticShape(tuple(choices))


def test_tree_is_filled_with_the_heads_tokens() -> None:
    proposals = Proposals(
        np.array([[10, 11, 12], [20, 21, 22]], np.int32), np.zeros((2, 3), np.float32)
    )
    tree = build_tree(7, proposals, [(0,), (1,), (0, 2), (1, 0)])
    assert tree.tokens == (7, 10, 11, 22, 20)
    assert tree.parents == (-1, 0, 0, 1, 2)
    assert tree.depths == (0, 1, 1, 2, 2)
    assert tree.leaves == (3, 4)
    assert tree.leaf_sets == ((0, 1), (0,), (1,), (0,), (1,))
    assert tree.child(0, 11) == 2
    assert tree.child(2, 22) is None


@given(parents=parent_lists())
def test_leaf_sets_are_the_leaves_below_each_node(parents: tuple[int, ...]) -> None:
    tree = TokenTree(tuple(range(len(parents))), parents)
    for node in range(len(tree)):
        for index, leaf in enumerate(tree.leaves):
            above = [leaf]
            while above[-1] > 0:
                above.append(parents[above[-1]])
            assert (index in tree.leaf_sets[node]) == (node in above)
    assert tree.leaf_sets[0] == tuple(range(len(tree.leaves)))
