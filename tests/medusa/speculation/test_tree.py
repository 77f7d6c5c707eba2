from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.speculation.tree import Choice, StaticShape, TokenTree


@st.composite
def parent_lists(draw: Callable[..., int]) -> tuple[int, ...]:
    size = draw(st.integers(1, 12))
    return (-1, *(draw(st.integers(0, node - 1)) for node in range(1, size)))


@pytest.mark.parametrize("choices", [[()], [(-1,)], [(0, 0)], [(0,), (1, 2)]])
def test_malformed_static_trees_are_refused(choices: list[Choice]) -> None:
    with pytest.raises(ValueError, match="tree choice"):
        StaticShape(tuple(choices))


def test_a_tree_knows_its_depths_leaves_and_children() -> None:
    tree = TokenTree((7, 10, 11, 22, 20), (-1, 0, 0, 1, 2))
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


def test_the_first_nodes_are_a_tree() -> None:
    tree = TokenTree((5, 6, 7, 8), (-1, 0, 0, 1))
    assert tree.first(3) == TokenTree((5, 6, 7), (-1, 0, 0))
    assert tree.first(1) == TokenTree.root_only(5)


def test_a_tree_knows_who_guessed_what() -> None:
    tree = TokenTree((5, 6, 7, 8), (-1, 0, 0, 2), ("heads", "lookup", "grammar"))
    assert tree.sources_of([0, 2, 3]) == ["lookup", "grammar"]
    assert tree.sources_of([0]) == []
    assert tree.first(3).sources == ("heads", "lookup")
    assert tree.first(1).sources == ()
