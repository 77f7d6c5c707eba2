from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.speculation.calibration import BINS
from medusa.speculation.growth import TreeGrowth, TreeRequest
from medusa.speculation.heads.header import Variant
from medusa.speculation.sources.heads import HeadsSource
from medusa.speculation.sources.source import ROOT, Draft
from tests.medusa.speculation.drafts import ROOMY, grow_fully, paths
from tests.medusa.speculation.fakes import N_VOCAB, NEW, FakeHeads, Key, wanted


def propose_one(source: HeadsSource, key: object | None = None) -> Draft:
    (draft,) = source.propose([wanted(NEW, key)])
    assert draft is not None
    return draft


def chances_of(source: HeadsSource) -> np.ndarray:
    """[n_heads, ranks]: how far the source believes FakeHeads' guesses."""
    draft = propose_one(source)
    below = draft.follow(ROOT, 11)
    assert below is not None
    return np.array([list(draft.guesses(place).values()) for place in (ROOT, below)])


def watch(source: HeadsSource, accepted: Sequence[int], times: int = 50) -> None:
    """Guess, then let the model choose `accepted`, again and again."""
    for _ in range(times):
        key = Key()
        propose_one(source, key)
        source.observe(key, accepted)


def test_all_requests_are_asked_for_in_one_call() -> None:
    heads = FakeHeads()
    drafts = HeadsSource(heads).propose([wanted(NEW), wanted((7, 8, 9))])
    assert [set(draft.guesses(ROOT)) for draft in drafts if draft] == [{11, 12}] * 2
    assert heads.roots == [[5, 9]]


@pytest.mark.parametrize("variant", list(Variant))
def test_hydra_heads_go_on_below_their_best_guesses_only(variant: Variant) -> None:
    draft = propose_one(HeadsSource(FakeHeads(variant)))
    assert draft.follow(ROOT, 11) == 1
    for token in (12, 99):
        assert draft.follow(ROOT, token) == (None if variant is Variant.HYDRA else 1)
    assert draft.follow(1, 21) is None, "there is no third head"


def test_counts_that_come_with_the_heads_decide_what_is_likely() -> None:
    hits = np.zeros((2, 6, BINS))
    hits[:, 1] = 900  # the second guess is usually right
    counts = np.stack([hits, np.full_like(hits, 1000)])
    chances = chances_of(HeadsSource(FakeHeads(counts=counts)))
    assert chances[:, 1] == pytest.approx([0.9, 0.9], abs=0.02)
    assert (chances[:, 0] < 0.02).all()


@pytest.mark.parametrize("variant", list(Variant))
def test_guesses_that_prove_right_are_believed_more(variant: Variant) -> None:
    source = HeadsSource(FakeHeads(variant))
    before = chances_of(source)
    watch(source, [11, 22, 30])
    after = chances_of(source)
    assert after[0, 0] > before[0, 0] + 0.2
    assert after[1, 1] > before[1, 1] + 0.2
    assert after[0, 1] < before[0, 1]
    assert after[1, 0] < before[1, 0]


@pytest.mark.parametrize("variant", list(Variant))
def test_hydra_heads_are_judged_along_the_best_path_only(variant: Variant) -> None:
    """Head 2 guessed what follows token 11; that 12 came instead says nothing of it."""
    source = HeadsSource(FakeHeads(variant))
    before = chances_of(source)
    watch(source, [12, 21])
    after = chances_of(source)
    assert after[0, 0] < before[0, 0]
    assert after[0, 1] > before[0, 1]
    if variant is Variant.HYDRA:
        np.testing.assert_array_equal(after[1], before[1])
    else:
        assert after[1, 0] > before[1, 0]


def test_heads_are_judged_no_further_than_the_model_went() -> None:
    source = HeadsSource(FakeHeads())
    before = chances_of(source)
    watch(source, [11])
    after = chances_of(source)
    assert after[0, 0] > before[0, 0]
    np.testing.assert_array_equal(after[1], before[1])


def test_heads_are_judged_once_for_every_step() -> None:
    source, key = HeadsSource(FakeHeads()), Key()
    propose_one(source, key)
    source.observe(key, [11])
    once = chances_of(source)
    source.observe(key, [99])
    np.testing.assert_array_equal(chances_of(source), once)


wild_tokens = st.lists(
    st.lists(st.integers(-2, N_VOCAB + 1) | st.just(2**31 - 1), min_size=3, max_size=3),
    min_size=1,
    max_size=3,
)
wild_probs = st.lists(
    st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=3, max_size=3),
    min_size=3,
    max_size=3,
)


@pytest.mark.parametrize("variant", [Variant.SHARED, Variant.HYDRA])
@given(tokens=wild_tokens, probs=wild_probs, accepted=st.lists(st.integers(0, 99), max_size=4))
def test_whatever_the_heads_say_trees_hold_tokens_of_the_vocabulary(
    variant: Variant, tokens: list[list[int]], probs: list[list[float]], accepted: list[int]
) -> None:
    source, key = HeadsSource(FakeHeads(variant, None, tokens, probs[: len(tokens)])), Key()
    for _ in range(2):
        growth = TreeGrowth(TreeRequest(5, ROOMY, [propose_one(source, key)]))
        added = grow_fully(growth)
        tree = growth.tree()
        assert all(0 <= token < N_VOCAB for token in tree.tokens)
        assert len(set(paths(tree))) == len(added)
        assert all(0 < chance <= 1 for chance in added)
        source.observe(key, accepted)
