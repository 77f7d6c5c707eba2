import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.speculation.cost import FixedCost
from medusa.speculation.growth import LEAST_GAIN, TreeGrowth, TreeRequest, plan_trees
from medusa.speculation.sources.heads import HeadsDraft
from medusa.speculation.tree import TreeLimits
from tests.medusa.speculation.costs import Dear, Linear, Uneven
from tests.medusa.speculation.drafts import (
    ROOMY,
    ROOT,
    Copy,
    Guesses,
    all_nodes,
    chances,
    copies,
    grow_fully,
    guesses,
    limits,
    paths,
    request_of,
)

drafts = st.lists(
    st.tuples(st.none() | guesses(max_heads=3, max_rank=3), st.none() | copies()),
    min_size=1,
    max_size=4,
)


@given(sources=drafts, limits=limits, max_nodes=st.integers(0, 10), slope=chances)
def test_growing_together_never_exceeds_the_nodes(
    sources: list[tuple[Guesses | None, Copy | None]],
    limits: TreeLimits,
    max_nodes: int,
    slope: float,
) -> None:
    for cost in (FixedCost(), Linear(1.0, slope)):
        requests = [request_of(limits, *source) for source in sources]
        sizes = [tree.n_drafts for tree in plan_trees(requests, max_nodes, cost).trees]
        assert sum(sizes) <= max_nodes
        assert max(sizes) <= limits.max_nodes


@given(
    sources=st.lists(guesses(max_heads=3, max_rank=3), min_size=1, max_size=3),
    max_nodes=st.integers(0, 12),
)
def test_the_nodes_are_the_likeliest_of_all_requests(
    sources: list[Guesses], max_nodes: int
) -> None:
    requests = [request_of(ROOMY, guesses) for guesses in sources]
    plan = plan_trees(requests, max_nodes, FixedCost(), min_nodes=max_nodes)
    everything = [all_nodes(guesses) for guesses in sources]
    taken = [
        nodes[path]
        for nodes, tree in zip(everything, plan.trees, strict=True)
        for path in paths(tree)
    ]
    wanted = heapq.nlargest(max_nodes, (c for nodes in everything for c in nodes.values()))
    assert sorted(taken, reverse=True) == pytest.approx(wanted)
    assert plan.expected_tokens == pytest.approx(len(sources) + sum(wanted))


@given(
    sources=st.lists(guesses(max_heads=3, max_rank=3), min_size=1, max_size=3),
    rises=st.lists(st.floats(0.0, 2.0), min_size=1, max_size=130),
)
def test_the_expected_tokens_per_second_are_the_best_possible(
    sources: list[Guesses], rises: list[float]
) -> None:
    cost = Uneven(rises)
    plan = plan_trees([request_of(ROOMY, guesses) for guesses in sources], 120, cost)
    n = len(sources)
    ranked = sorted(
        (chance for guesses in sources for chance in all_nodes(guesses).values()), reverse=True
    )
    speeds = [
        (n + sum(ranked[:count])) / cost.seconds(n + count) for count in range(len(ranked) + 1)
    ]
    best = max(speeds) if max(speeds) >= LEAST_GAIN * speeds[0] else speeds[0]
    assert speeds[sum(tree.n_drafts for tree in plan.trees)] == pytest.approx(best)
    assert plan.tokens_per_second == pytest.approx(best)


def test_growth_stops_when_a_node_does_not_pay() -> None:
    """With 1 + 0.1 n seconds a node pays from a chance of E / (10 + n) on."""
    copy = Copy((1, 2, 3), (0.5, 0.5, 0.3))
    (tree,) = plan_trees([request_of(ROOMY, copy=copy)], 10, Linear(1.0, 0.1)).trees
    assert tree.n_drafts == 2


@pytest.mark.parametrize(("chance", "n_drafts"), [(0.55, 0), (0.7, 1)])
def test_guesses_that_gain_little_are_left_out(chance: float, n_drafts: int) -> None:
    """Four requests and a node that costs a ninth of the step: 1.024 and 1.058 times as fast."""
    copies = [Copy((1,), (chance,)), *[None] * 3]
    plan = plan_trees([request_of(ROOMY, copy=copy) for copy in copies], 10, Linear(5.0, 1.0))
    assert sum(tree.n_drafts for tree in plan.trees) == n_drafts


def test_a_step_in_the_cost_is_crossed_for_many_likely_nodes() -> None:
    """The next two nodes do not pay, all twelve do."""
    cost = Uneven([0.0, 0.0, 0.0, 1.0, 1.0, *[0.0] * 20])
    copy = Copy(tuple(range(1, 13)), (0.95,) * 12)
    (tree,) = plan_trees([request_of(ROOMY, copy=copy)], 16, cost).trees
    assert tree.n_drafts == 12


def test_a_step_in_the_cost_is_not_crossed_for_one_unlikely_node() -> None:
    class Blocks:
        change_seconds = 0.0

        def seconds(self, n_tokens: int) -> float:
            return 1.0 if n_tokens <= 2 else 2.0

    request = request_of(ROOMY, copy=Copy((1, 2), (0.3, 0.99)))
    (tree,) = plan_trees([request], 10, Blocks()).trees
    assert tree.n_drafts == 1


def test_the_size_of_the_last_step_is_kept_where_a_change_costs_more_than_it_gains() -> None:
    guesses = Guesses([[1], [2], [3], [4]], [[0.9], [0.8], [0.3], [0.2]], chained=True)

    def size(change: float, last_size: int) -> int:
        cost = Linear(4.0, 1.0, change)
        plan = plan_trees([request_of(ROOMY, guesses)], 10, cost, last_size=last_size)
        return len(plan.trees[0])

    assert size(0.0, 4) == size(0.0, 0) == 3, "what pays when changing costs nothing"
    assert size(2.0, 4) == 4
    assert size(2.0, 2) == 2
    assert size(0.01, 4) == 3
    assert size(2.0, 50) == 3, "the last step had more tokens than can be guessed now"


@given(sources=drafts, last_size=st.integers(0, 12), change=chances)
def test_a_tree_cut_to_size_is_a_tree(
    sources: list[tuple[Guesses | None, Copy | None]], last_size: int, change: float
) -> None:
    requests = [request_of(ROOMY, *source) for source in sources]
    plan = plan_trees(requests, 10, Linear(1.0, 0.1, change), last_size=last_size)
    for tree, request in zip(plan.trees, requests, strict=True):
        growth = TreeGrowth(request)
        grow_fully(growth)
        whole = growth.tree()
        assert tree.tokens == whole.tokens[: len(tree)]
        assert tree.parents == whole.parents[: len(tree)]


def test_some_nodes_are_taken_whether_they_pay_or_not() -> None:
    guesses = Guesses([[1], [2], [3]], [[0.2], [0.2], [0.2]], chained=True)
    for min_nodes in range(5):
        request = request_of(ROOMY, guesses)
        (tree,) = plan_trees([request], 10, Linear(1.0, 1.0), min_nodes=min_nodes).trees
        assert tree.n_drafts == min(min_nodes, 3)


@given(sources=drafts, max_nodes=st.integers(0, 10), last_size=st.integers(0, 12))
def test_planning_twice_gives_the_same_trees(
    sources: list[tuple[Guesses | None, Copy | None]], max_nodes: int, last_size: int
) -> None:
    requests = [request_of(ROOMY, *source) for source in sources]
    cost = Linear(1.0, 0.1)
    plans = [plan_trees(requests, max_nodes, cost, last_size=last_size) for _ in range(2)]
    assert plans[0] == plans[1]


@pytest.mark.parametrize("n_requests", [1, 3, 5])
def test_certain_nodes_are_taken_whatever_they_cost_and_shared_evenly(n_requests: int) -> None:
    """Not the whole tree of one request before the next one's first node."""
    certain = HeadsDraft([{token: 1.0} for token in range(8)])
    requests = [TreeRequest(ROOT, ROOMY, [certain])] * n_requests
    sizes = [tree.n_drafts for tree in plan_trees(requests, 8, Dear()).trees]
    assert sum(sizes) == 8
    assert max(sizes) - min(sizes) <= 1


def test_guesses_that_are_as_likely_come_from_the_smallest_tree() -> None:
    flat = HeadsDraft([dict.fromkeys(range(4), 0.25)])
    requests = [TreeRequest(ROOT, ROOMY, [flat])] * 2
    for max_nodes in range(9):
        sizes = [tree.n_drafts for tree in plan_trees(requests, max_nodes, FixedCost()).trees]
        assert sum(sizes) == max_nodes
        assert max(sizes) - min(sizes) <= 1


wild = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1.0, -1.0, 0.5])


@given(
    levels=st.lists(
        st.lists(st.dictionaries(st.integers(0, 4), wild, max_size=4), min_size=1, max_size=3),
        min_size=1,
        max_size=3,
    ),
    limits=limits,
    max_nodes=st.integers(0, 10),
)
def test_chances_that_are_none_never_break_a_tree(
    levels: list[list[dict[int, float]]], limits: TreeLimits, max_nodes: int
) -> None:
    request = TreeRequest(ROOT, limits, [HeadsDraft(draft) for draft in levels])
    plan = plan_trees([request, request], max_nodes, Linear(1.0, 0.1))
    assert 2 <= plan.expected_tokens <= 2 + max_nodes
    for tree in plan.trees:
        assert tree.tokens[0] == ROOT
        assert len(set(paths(tree))) == tree.n_drafts
        assert tree.n_drafts <= limits.max_nodes
