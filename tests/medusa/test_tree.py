from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.tree import (
    BestFirstShape,
    Choice,
    Proposals,
    StaticShape,
    TokenTree,
    TreeLimits,
    TreeShape,
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


@given(probs=probabilities(), limits=limits, data=st.data())
def test_every_shape_respects_its_limits_and_puts_parents_first(
    probs: np.ndarray, limits: TreeLimits, data: st.DataObject
) -> None:
    shapes: list[TreeShape] = [
        BestFirstShape(),
        BestFirstShape(min_probability=0.1),
        StaticShape(((0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (1, 0, 0))),
    ]
    choices = data.draw(st.sampled_from(shapes)).choose(probs, limits)
    assert len(choices) == len(set(choices)) <= limits.max_nodes
    assert n_leaves(choices) <= limits.max_leaves
    for index, choice in enumerate(choices):
        assert 1 <= len(choice) <= min(limits.max_depth, len(probs))
        assert max(choice) < probs.shape[1]
        assert choice[:-1] == () or choice[:-1] in choices[:index]


@given(probs=probabilities(), budget=st.integers(1, 10))
def test_best_first_takes_the_likeliest_nodes(probs: np.ndarray, budget: int) -> None:
    roomy = TreeLimits(max_nodes=budget, max_leaves=100, max_depth=10)
    chosen = BestFirstShape().choose(probs, roomy)
    everything = BestFirstShape().choose(probs, TreeLimits(10_000, 10_000, 10))

    def chance(choice: Choice) -> float:
        return float(np.prod([float(probs[d, rank]) for d, rank in enumerate(choice)]))

    best = sorted((chance(choice) for choice in everything), reverse=True)[: len(chosen)]
    assert sorted(map(chance, chosen), reverse=True) == pytest.approx(best)
    assert len(chosen) == min(budget, len(everything))


def test_unlikely_nodes_are_left_out() -> None:
    probs = np.array([[0.6, 0.2, 0.01], [0.5, 0.1, 0.01]], np.float32)
    choices = BestFirstShape(min_probability=0.15).choose(probs, TreeLimits(10, 10, 10))
    assert choices == [(0,), (0, 0), (1,)]


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
