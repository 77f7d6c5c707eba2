import heapq
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.speculation.growth import Guesses, TreeGrowth, grow_together
from medusa.speculation.sources.lookup import Continuation
from medusa.speculation.tree import TokenTree, TreeLimits

ROOT = 100
ROOMY = TreeLimits(max_nodes=1000, max_leaves=1000, max_depth=1000)
Path = tuple[int, ...]
"""A node by the tokens that lead to it."""

chances = st.floats(0.01, 0.99)
limits = st.builds(
    TreeLimits,
    max_nodes=st.integers(0, 12),
    max_leaves=st.integers(1, 5),
    max_depth=st.integers(0, 6),
)


@st.composite
def guesses(draw: st.DrawFn, *, max_heads: int = 4, max_rank: int = 4) -> Guesses:
    """Heads that guess different tokens each, the likeliest first; they sum to at most 1."""
    top_k = draw(st.integers(1, max_rank))
    tokens, rows = [], []
    for _ in range(draw(st.integers(1, max_heads))):
        tokens.append(draw(st.permutations(range(6)))[:top_k])
        raw = sorted(draw(st.lists(chances, min_size=top_k, max_size=top_k)), reverse=True)
        total = max(1.0, sum(raw))
        rows.append([chance / total for chance in raw])
    return Guesses(tokens, rows, draw(st.booleans()))


@st.composite
def continuations(draw: st.DrawFn, *, max_size: int = 8) -> Continuation:
    tokens = draw(st.lists(st.integers(0, 5), min_size=1, max_size=max_size))
    return Continuation(tuple(tokens), tuple(draw(chances) for _ in tokens))


class Free:
    """Every guess is free."""

    change_seconds = 0.0

    def seconds(self, n_tokens: int) -> float:
        return 1.0


class Linear:
    """Time that grows by the token."""

    def __init__(self, start: float, slope: float, change: float = 0.0) -> None:
        self._start, self._slope = start, slope
        self.change_seconds = change

    def seconds(self, n_tokens: int) -> float:
        return self._start + self._slope * n_tokens


def paths(tree: TokenTree) -> list[Path]:
    """Every node but the root, in order."""
    found: list[Path] = [()]
    for token, parent in zip(tree.tokens[1:], tree.parents[1:], strict=True):
        found.append((*found[parent], token))
    return found[1:]


def grow_fully(growth: TreeGrowth) -> list[float]:
    """The chances of the nodes as they were added."""
    seen = []
    while growth.chance > 0:
        seen.append(growth.chance)
        growth.grow()
    return seen


def all_nodes(
    guesses: Guesses | None, continuation: Continuation | None = None
) -> dict[Path, float]:
    """Every node that could be in a tree, and its chance."""
    heads = list(zip(guesses.tokens, guesses.chances, strict=True)) if guesses else []
    best = tuple(tokens[0] for tokens, _ in heads)
    copy = continuation.tokens if continuation else ()
    nodes: dict[Path, float] = {}

    def visit(path: Path, chance: float) -> None:
        depth = len(path)
        children: dict[int, float] = {}
        if depth < len(heads) and guesses and (not guesses.chained or path == best[:depth]):
            children |= dict(zip(*heads[depth], strict=True))
        if continuation and depth < len(copy) and path == copy[:depth]:
            token = copy[depth]
            children[token] = max(children.get(token, 0.0), continuation.chances[depth])
        for token, own in children.items():
            nodes[*path, token] = chance * own
            visit((*path, token), chance * own)

    visit((), 1.0)
    return nodes


def likeliest(nodes: Sequence[float], count: int) -> list[float]:
    return heapq.nlargest(count, nodes)


@given(
    limits=limits,
    guesses=st.none() | guesses(),
    continuation=st.none() | continuations(),
)
def test_any_growth_gives_a_tree_within_its_limits(
    limits: TreeLimits, guesses: Guesses | None, continuation: Continuation | None
) -> None:
    growth = TreeGrowth(ROOT, limits, guesses, continuation)
    assert growth.tree() == TokenTree.root_only(ROOT)
    added = grow_fully(growth)
    tree = growth.tree()
    assert tree.tokens[0] == ROOT
    assert tree.n_drafts == len(added) <= limits.max_nodes
    assert len(tree.leaves) <= limits.max_leaves
    assert max(tree.depths) <= limits.max_depth
    assert len(set(paths(tree))) == tree.n_drafts, "siblings guess the same token"
    assert set(paths(tree)) <= set(all_nodes(guesses, continuation))
    assert all(0 < chance <= 1 for chance in added)


@given(limits=limits, guesses=guesses())
def test_the_heads_nodes_are_added_in_falling_chance(limits: TreeLimits, guesses: Guesses) -> None:
    growth = TreeGrowth(ROOT, limits, guesses)
    added = grow_fully(growth)
    assert added == sorted(added, reverse=True)
    everything = all_nodes(guesses)
    assert [everything[path] for path in paths(growth.tree())] == pytest.approx(added)


@given(limits=limits, continuation=continuations())
def test_a_continuation_alone_is_a_chain(limits: TreeLimits, continuation: Continuation) -> None:
    growth = TreeGrowth(ROOT, limits, continuation=continuation)
    added = grow_fully(growth)
    length = min(len(continuation.tokens), limits.max_nodes, limits.max_depth)
    tree = growth.tree()
    assert tree.tokens == (ROOT, *continuation.tokens[:length])
    assert tree.parents == tuple(range(-1, length))
    products = itertools.accumulate(continuation.chances[:length], lambda a, b: a * b)
    assert added == pytest.approx(list(products))


@given(guesses=guesses(), continuation=continuations())
def test_without_limits_every_possible_node_is_added_once(
    guesses: Guesses, continuation: Continuation
) -> None:
    growth = TreeGrowth(ROOT, ROOMY, guesses, continuation)
    grow_fully(growth)
    assert sorted(paths(growth.tree())) == sorted(all_nodes(guesses, continuation))


@given(guesses=guesses(), count=st.integers(0, 12))
def test_the_likeliest_nodes_are_added_first(guesses: Guesses, count: int) -> None:
    growth = TreeGrowth(ROOT, TreeLimits(count, 1000, 1000), guesses)
    added = grow_fully(growth)
    assert added == pytest.approx(likeliest(list(all_nodes(guesses).values()), count))


def test_a_copy_of_the_heads_best_path_shares_its_nodes() -> None:
    guesses = Guesses([[1, 2], [3, 4]], [[0.5, 0.2], [0.4, 0.1]], chained=True)
    growth = TreeGrowth(ROOT, ROOMY, guesses, Continuation((1, 3, 5), (0.9, 0.8, 0.7)))
    grow_fully(growth)
    assert sorted(paths(growth.tree())) == [(1,), (1, 3), (1, 3, 5), (1, 4), (2,)]


@given(guesses=guesses(), data=st.data())
def test_a_copy_of_the_heads_best_path_adds_nothing(guesses: Guesses, data: st.DataObject) -> None:
    best = tuple(row[0] for row in guesses.tokens)
    copy = Continuation(best, tuple(data.draw(chances) for _ in best))
    growth = TreeGrowth(ROOT, ROOMY, guesses, copy)
    grow_fully(growth)
    assert sorted(paths(growth.tree())) == sorted(all_nodes(guesses))


def test_a_node_that_heads_and_lookup_share_is_wrong_only_if_both_are() -> None:
    guesses = Guesses([[1, 2]], [[0.5, 0.2]], chained=False)
    growth = TreeGrowth(ROOT, ROOMY, guesses, Continuation((1,), (0.9,)))
    assert grow_fully(growth) == pytest.approx([0.95, 0.02])


def test_a_copy_that_is_certain_leaves_nothing_to_other_guesses() -> None:
    guesses = Guesses([[1, 2]], [[0.7, 0.3]], chained=False)
    growth = TreeGrowth(ROOT, ROOMY, guesses, Continuation((1,), (1.0,)))
    assert grow_fully(growth) == [1.0]


def test_a_copied_node_lets_the_heads_guesses_below_it_in_at_once() -> None:
    """The second head's guess is as likely as the copied node that it follows."""
    guesses = Guesses([[1, 2], [3, 4]], [[0.1, 0.05], [0.9, 0.02]], chained=False)
    growth = TreeGrowth(ROOT, TreeLimits(2, 10, 10), guesses, Continuation((1, 5), (0.9, 0.2)))
    assert grow_fully(growth) == pytest.approx([0.91, 0.91 * 0.9])
    assert paths(growth.tree()) == [(1,), (1, 3)]


@given(guesses=guesses(max_heads=2, max_rank=3), continuation=continuations(max_size=3))
def test_whatever_is_shared_nodes_are_added_in_falling_chance(
    guesses: Guesses, continuation: Continuation
) -> None:
    added = grow_fully(TreeGrowth(ROOT, ROOMY, guesses, continuation))
    assert added == sorted(added, reverse=True)


@given(guesses=guesses())
def test_chained_guesses_have_children_below_the_best_path_only(guesses: Guesses) -> None:
    chained = Guesses(guesses.tokens, guesses.chances, chained=True)
    growth = TreeGrowth(ROOT, ROOMY, chained)
    grow_fully(growth)
    best = tuple(row[0] for row in guesses.tokens)
    for path in paths(growth.tree()):
        assert path[:-1] == best[: len(path) - 1]
    assert growth.tree().n_drafts == sum(map(len, guesses.tokens))


def test_a_copy_off_the_best_path_opens_no_chained_guesses() -> None:
    guesses = Guesses([[1, 2], [3, 4]], [[0.5, 0.2], [0.4, 0.1]], chained=True)
    growth = TreeGrowth(ROOT, ROOMY, guesses, Continuation((2, 6), (0.9, 0.9)))
    grow_fully(growth)
    below_two = [path for path in paths(growth.tree()) if path[:1] == (2,)]
    assert below_two == [(2,), (2, 6)]


def test_impossible_guesses_are_not_added() -> None:
    guesses = Guesses([[1, 2]], [[0.5, 0.0]], chained=False)
    growth = TreeGrowth(ROOT, ROOMY, guesses, Continuation((3,), (0.0,)))
    assert grow_fully(growth) == [0.5]


def test_without_guesses_nothing_grows() -> None:
    growth = TreeGrowth(ROOT, ROOMY)
    assert growth.chance == 0
    grow_together([growth], 5, Free())
    assert growth.tree() == TokenTree.root_only(ROOT)


growths = st.lists(
    st.tuples(st.none() | guesses(max_heads=3, max_rank=3), st.none() | continuations()),
    min_size=1,
    max_size=4,
)


@given(sources=growths, limits=limits, max_nodes=st.integers(0, 10), slope=chances)
def test_growing_together_never_exceeds_the_nodes(
    sources: list[tuple[Guesses | None, Continuation | None]],
    limits: TreeLimits,
    max_nodes: int,
    slope: float,
) -> None:
    for cost in (Free(), Linear(1.0, slope)):
        trees = [TreeGrowth(ROOT, limits, *source) for source in sources]
        grow_together(trees, max_nodes, cost)
        sizes = [growth.tree().n_drafts for growth in trees]
        assert sum(sizes) <= max_nodes
        assert max(sizes) <= limits.max_nodes


@given(
    sources=st.lists(guesses(max_heads=3, max_rank=3), min_size=1, max_size=3),
    max_nodes=st.integers(0, 12),
)
def test_free_nodes_are_the_likeliest_of_all_requests(
    sources: list[Guesses], max_nodes: int
) -> None:
    trees = [TreeGrowth(ROOT, ROOMY, guesses) for guesses in sources]
    grow_together(trees, max_nodes, Free())
    everything = [all_nodes(guesses) for guesses in sources]
    taken = [
        nodes[path]
        for nodes, growth in zip(everything, trees, strict=True)
        for path in paths(growth.tree())
    ]
    wanted = likeliest([chance for nodes in everything for chance in nodes.values()], max_nodes)
    assert sorted(taken, reverse=True) == pytest.approx(wanted)


@given(
    sources=st.lists(guesses(max_heads=3, max_rank=3), min_size=1, max_size=3),
    slope=st.floats(0.01, 2.0),
)
def test_with_a_linear_cost_the_expected_tokens_per_second_are_the_best_possible(
    sources: list[Guesses], slope: float
) -> None:
    cost = Linear(1.0, slope)
    trees = [TreeGrowth(ROOT, ROOMY, guesses) for guesses in sources]
    grow_together(trees, 1000, cost)
    n = len(sources)
    ranked = sorted(
        (chance for guesses in sources for chance in all_nodes(guesses).values()), reverse=True
    )
    speeds = [
        (n + sum(ranked[:count])) / cost.seconds(n + count) for count in range(len(ranked) + 1)
    ]
    taken = sum(growth.tree().n_drafts for growth in trees)
    assert speeds[taken] == pytest.approx(max(speeds))


def test_growth_stops_when_a_node_does_not_pay() -> None:
    """With 1 + 0.1 n seconds a node pays from a chance of E / (10 + n) on."""
    copy = Continuation((1, 2, 3), (0.5, 0.5, 0.3))
    growth = TreeGrowth(ROOT, ROOMY, continuation=copy)
    grow_together([growth], 10, Linear(1.0, 0.1))
    assert growth.tree().n_drafts == 2


@pytest.mark.parametrize(("chance", "n_drafts"), [(0.55, 0), (0.7, 1)])
def test_guesses_that_gain_little_are_left_out(chance: float, n_drafts: int) -> None:
    """Four requests and a node that costs a ninth of the step: 1.024 and 1.058 times as fast."""
    copies = [Continuation((1,), (chance,)), *[None] * 3]
    trees = [TreeGrowth(ROOT, ROOMY, continuation=copy) for copy in copies]
    grown = grow_together(trees, 10, Linear(5.0, 1.0))
    assert sum(tree.n_drafts for tree in grown) == n_drafts


def test_a_step_in_the_cost_is_not_crossed_for_one_unlikely_node() -> None:
    class Blocks:
        change_seconds = 0.0

        def seconds(self, n_tokens: int) -> float:
            return 1.0 if n_tokens <= 2 else 2.0

    growth = TreeGrowth(ROOT, ROOMY, continuation=Continuation((1, 2), (0.01, 0.99)))
    grow_together([growth], 10, Blocks())
    assert growth.tree().n_drafts == 1


def test_the_size_of_the_last_step_is_kept_where_a_change_costs_more_than_it_gains() -> None:
    guesses = Guesses([[1], [2], [3], [4]], [[0.9], [0.8], [0.3], [0.2]], chained=True)

    def size(change: float, last_size: int) -> int:
        growth = TreeGrowth(ROOT, ROOMY, guesses)
        (tree,) = grow_together([growth], 10, Linear(4.0, 1.0, change), last_size=last_size)
        return len(tree)

    assert size(0.0, 4) == size(0.0, 0) == 3, "what pays when changing costs nothing"
    assert size(2.0, 4) == 4
    assert size(2.0, 2) == 2
    assert size(0.01, 4) == 3
    assert size(2.0, 50) == 3, "the last step had more tokens than can be guessed now"


@given(sources=growths, last_size=st.integers(0, 12), change=chances)
def test_a_tree_cut_to_size_is_a_tree(
    sources: list[tuple[Guesses | None, Continuation | None]], last_size: int, change: float
) -> None:
    trees = [TreeGrowth(ROOT, ROOMY, *source) for source in sources]
    cut = grow_together(trees, 10, Linear(1.0, 0.1, change), last_size=last_size)
    for tree, growth in zip(cut, trees, strict=True):
        whole = growth.tree()
        assert tree.tokens == whole.tokens[: len(tree)]
        assert tree.parents == whole.parents[: len(tree)]


def test_some_nodes_are_taken_whether_they_pay_or_not() -> None:
    guesses = Guesses([[1], [2], [3]], [[0.2], [0.2], [0.2]], chained=True)
    for min_nodes in range(5):
        growth = TreeGrowth(ROOT, ROOMY, guesses)
        (tree,) = grow_together([growth], 10, Linear(1.0, 1.0), min_nodes=min_nodes)
        assert tree.n_drafts == min(min_nodes, 3)
