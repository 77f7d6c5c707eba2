from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from medusa.speculation.alignment import Alignment
from medusa.speculation.cost import FixedCost, MeasuredCost, StepCost
from medusa.speculation.drafter import DraftConfig, Drafter
from medusa.speculation.heads.guessing import Heads
from medusa.speculation.tree import StaticShape, TokenTree
from tests.medusa.speculation.costs import Dear
from tests.medusa.speculation.fakes import NEW, REPEATING, FakeHeads, Key, wanted


def drafter(
    heads: Heads | None,
    max_nodes: int,
    *,
    lookup: bool = True,
    shape: StaticShape | None = None,
    cost: StepCost | None = None,
) -> Drafter:
    config = DraftConfig(
        max_nodes=max_nodes, max_requests=8, lookup=lookup, shape=shape, cost=cost or FixedCost()
    )
    return Drafter.create(heads, config, None)


def draft_one(
    drafter: Drafter,
    tokens: Sequence[int],
    key: object | None = None,
    *,
    max_leaves: int = 10,
    max_depth: int = 10,
) -> TokenTree:
    request = wanted(tokens, key, max_leaves=max_leaves, max_depth=max_depth)
    (tree,) = drafter.draft([request]).trees
    return tree


def test_every_request_gets_a_tree_of_its_own_root() -> None:
    heads = FakeHeads()
    drafts = drafter(heads, 8)
    assert drafts.draft([]).trees == []
    drafted = drafts.draft([wanted(NEW), wanted((7, 8, 9))])
    assert [tree.tokens[0] for tree in drafted.trees] == [5, 9]
    assert sum(tree.n_drafts for tree in drafted.trees) == 8
    assert heads.roots == [[5, 9]], "all requests in one call"
    assert drafted.heads_seconds > 0
    assert drafted.failures == 0


@pytest.mark.parametrize("max_nodes", [0, 1, 3, 8])
@pytest.mark.parametrize("shape", [None, StaticShape(((0,), (1,), (0, 0), (0, 1)))])
def test_the_nodes_are_shared_by_all_requests(max_nodes: int, shape: StaticShape | None) -> None:
    requests = [wanted(NEW), wanted(REPEATING), wanted(NEW)]
    trees = drafter(FakeHeads(), max_nodes, shape=shape).draft(requests).trees
    assert sum(tree.n_drafts for tree in trees) == max_nodes


def test_a_fixed_tree_of_many_requests_never_exceeds_the_nodes_of_a_step() -> None:
    """32 requests with a tree of 16 nodes each used to overflow a batch of 512 rows."""
    shape = StaticShape(tuple((0,) * depth for depth in range(1, 3)))
    requests = [wanted(NEW) for _ in range(32)]
    trees = drafter(FakeHeads(), 16, shape=shape, cost=Dear()).draft(requests).trees
    assert sum(map(len, trees)) == 32 + 16
    assert [tree.n_drafts for tree in trees].count(1) == 16, "nobody gets two before all have one"


def test_a_request_limits_its_own_tree() -> None:
    drafts = drafter(FakeHeads(), 20)
    chain = draft_one(drafts, REPEATING, max_leaves=1)
    assert len(chain.leaves) == 1
    assert chain.n_drafts > 1
    flat = draft_one(drafts, REPEATING, max_depth=1)
    assert max(flat.depths) == 1
    assert draft_one(drafts, REPEATING, max_depth=0) == TokenTree.root_only(2)


def test_heads_and_lookup_meet_in_one_tree() -> None:
    tree = draft_one(drafter(FakeHeads(), 50), REPEATING, max_depth=3)
    assert tree.child(0, 11) is not None
    copied = tree.child(0, 3)
    assert copied is not None
    assert tree.child(copied, 4) is not None


def test_without_heads_only_lookup_drafts() -> None:
    drafted = drafter(None, 4).draft([wanted(REPEATING), wanted(NEW)])
    assert drafted.trees == [TokenTree((2, 3, 4, 5, 1), (-1, 0, 1, 2, 3)), TokenTree.root_only(5)]
    assert drafted.heads_seconds == 0


def test_without_lookup_only_heads_draft() -> None:
    tree = draft_one(drafter(FakeHeads(), 50, lookup=False), REPEATING)
    assert set(tree.tokens) == {2, 11, 12, 21, 22}


def test_with_neither_nothing_is_drafted() -> None:
    drafts, key = drafter(None, 8, lookup=False), Key()
    assert draft_one(drafts, REPEATING, key) == TokenTree.root_only(2)
    drafts.observe(key, [3])


def test_heads_are_not_asked_for_a_request_whose_copy_is_sure() -> None:
    heads = FakeHeads()
    sure = [1, 2, 3, 4, 5, 6, 7, 8, 9] * 4
    drafter(heads, 8).draft([wanted(sure), wanted(NEW)])
    assert heads.roots == [[5]]


def test_heads_are_asked_now_and_then_only_while_they_do_not_pay() -> None:
    heads = FakeHeads()
    drafts, key = drafter(heads, 8, cost=Dear()), Key()
    for _ in range(320):
        draft_one(drafts, NEW, key)
        drafts.observe(key, [99])
    before = len(heads.roots)
    for _ in range(160):
        draft_one(drafts, NEW, key)
        drafts.observe(key, [99])
    assert len(heads.roots) - before == 10


@pytest.mark.parametrize("cost", [FixedCost(), Dear()])
def test_a_static_shape_ignores_lookup_chances_and_cost(cost: StepCost) -> None:
    shape = StaticShape(((1,), (0,), (1, 0)))
    drafts, key = drafter(FakeHeads(), 8, shape=shape, cost=cost), Key()
    for _ in range(40):
        tree = draft_one(drafts, REPEATING, key)
        assert tree == TokenTree((2, 11, 12, 21), (-1, 0, 0, 2))
        drafts.observe(key, [12, 21])
    assert draft_one(drafts, REPEATING, max_depth=1).n_drafts == 2


def test_a_static_shape_without_heads_has_nothing_to_draft() -> None:
    drafts = drafter(None, 8, shape=StaticShape(((0,),)))
    assert draft_one(drafts, REPEATING) == TokenTree.root_only(2)


def test_a_text_goes_on_from_step_to_step() -> None:
    drafts, key = drafter(None, 4), Key()
    text = list(NEW)
    for token in (1, 2, 3):
        text.append(token)
        tree = draft_one(drafts, text, key)
        drafts.observe(key, [token + 1])
    assert tree.tokens[:3] == (3, 4, 5)


def test_the_likeliest_guess_is_drafted_first_whatever_its_rank() -> None:
    drafts = drafter(FakeHeads(), 1, lookup=False)
    for _ in range(50):
        key = Key()
        draft_one(drafts, NEW, key)
        drafts.observe(key, [12])
    assert draft_one(drafts, NEW).tokens == (5, 12)


def steep(n_tokens: int) -> float:
    return 0.01 * n_tokens**2


def flat(n_tokens: int) -> float:
    return 0.01


@pytest.mark.parametrize(("measured", "n_drafts"), [(flat, 4), (steep, 0)])
def test_the_cost_is_measured_where_none_is_given(
    measured: Callable[[int], float], n_drafts: int
) -> None:
    config = DraftConfig(max_nodes=4, max_requests=2, lookup=True, shape=None, cost=None)
    sizes = []

    def measure(n_tokens: int) -> float:
        sizes.append(n_tokens)
        return measured(n_tokens)

    drafts = Drafter.create(None, config, measure)
    assert max(sizes) == 6, "all requests' roots and all guesses"
    assert draft_one(drafts, REPEATING).n_drafts == n_drafts


def test_a_measured_cost_is_taught_and_a_given_one_is_not() -> None:
    config = DraftConfig(max_nodes=4, max_requests=2, lookup=True, shape=None, cost=None)
    drafts = Drafter.create(None, config, flat)
    given = drafter(None, 4)
    for _ in range(200):
        for n_tokens in (1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6):
            drafts.learn(n_tokens, steep(n_tokens), 0.0)
            given.learn(n_tokens, steep(n_tokens), 0.0)
    assert draft_one(drafts, REPEATING).n_drafts == 0
    assert draft_one(given, REPEATING).n_drafts == 4


def test_heads_that_make_steps_slower_than_expected_are_asked_no_more() -> None:
    """Whatever it is that slows them: the cost by size knows nothing of it."""
    heads = FakeHeads()
    drafts, key = drafter(heads, 8, cost=MeasuredCost((1, 16), (0.01, 0.0101))), Key()
    asked, decoded = [], TokenTree.root_only(2)
    for _ in range(1600):
        before = len(heads.roots)
        tree = draft_one(drafts, REPEATING, key)
        asked.append(len(heads.roots) > before)
        other = 0.1 if any(asked[-2:]) else 0.0
        drafts.learn(len(decoded), 0.01, other)
        drafts.compare(1, len(decoded), 0.01 + other)
        decoded = tree
    assert all(asked[:8])
    assert asked[-160:].count(True) <= 12
    assert decoded.n_drafts, "copies alone pay"


def run(drafts: Drafter, n_steps: int, brings: Callable[[TokenTree], int]) -> list[bool]:
    """Whether there were guesses for each of so many steps, which take 10 ms and 2 more if so."""
    key, guessed = Key(), []
    tree = draft_one(drafts, REPEATING, key)
    for _ in range(n_steps):
        decoded = tree
        tree = draft_one(drafts, REPEATING, key)
        guessed.append(decoded.n_drafts > 0)
        drafts.compare(1, brings(decoded), 0.012 if guessed[-1] else 0.010)
    return guessed


def measured() -> Drafter:
    config = DraftConfig(max_nodes=4, max_requests=2, lookup=True, shape=None, cost=None)
    return Drafter.create(None, config, flat)


def test_now_and_then_nothing_is_guessed_though_guesses_pay() -> None:
    guessed = run(measured(), 2000, len)
    assert 0.95 < guessed.count(True) / 2000 < 0.98


def test_guesses_that_cost_more_than_they_bring_rest() -> None:
    guessed = run(measured(), 4000, lambda _tree: 1)
    assert all(guessed[:16])
    assert guessed[-2000:].count(True) / 2000 < 0.04, "and are tried now and then"


def test_guesses_that_got_better_are_made_again() -> None:
    drafts = measured()
    run(drafts, 4000, lambda _tree: 1)
    guessed = run(drafts, 2000, len)
    assert guessed[-500:].count(True) / 500 > 0.95


def test_a_prediction_is_followed_while_other_guesses_rest() -> None:
    drafts = measured()
    run(drafts, 1000, lambda _tree: 1)
    assert draft_one(drafts, REPEATING) == TokenTree.root_only(2)
    predicted = replace(wanted(REPEATING), alignment=Alignment((7, 8, 9)))
    (tree,) = drafts.draft([predicted]).trees
    assert tree.tokens == (2, 7, 8, 9)
