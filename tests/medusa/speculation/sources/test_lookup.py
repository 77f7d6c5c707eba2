import gc
import weakref
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.speculation.sources.lookup import (
    Continuation,
    Ground,
    Lookup,
    LookupSource,
)
from medusa.speculation.sources.ngrams import Evidence
from medusa.speculation.sources.source import ROOT, Draft
from tests.medusa.speculation.fakes import REPEATING, Key, wanted
from tests.medusa.speculation.sources.test_ngrams import (
    brute_force_match,
    following_of,
    text_of,
    texts,
)


def lookup_of(text: Sequence[int]) -> Lookup:
    lookup = Lookup()
    lookup.read(text)
    return lookup


def tokens_of(found: Continuation) -> list[int]:
    return [found.token(depth) for depth in range(found.count)]


def chances_of(found: Continuation) -> list[float]:
    """In order, as a tree that follows the copied tokens would ask for them."""
    chances, place = [], ROOT
    for token in tokens_of(found):
        guesses = found.guesses(place)
        assert set(guesses) == {token}
        chances.append(guesses[token])
        below = found.follow(place, token)
        assert found.follow(place, token + 1) is None
        if below is None:
            break
        place = below
    assert len(chances) == found.count
    return chances


@given(period=st.integers(1, 6), extra=st.integers(0, 5), count=st.integers(1, 20))
def test_a_text_that_repeats_is_continued_as_it_repeats(
    period: int, extra: int, count: int
) -> None:
    text = list(range(period)) * 40
    n_written = 4 * period + 4 + extra
    found = lookup_of(text[:n_written]).continuation(count)
    assert found is not None
    assert tokens_of(found) == text[n_written : n_written + count]


grounds = st.builds(Ground.of, st.sampled_from(Evidence), st.integers(1, 40))


@given(
    text=texts,
    seen=st.lists(st.tuples(grounds, st.booleans()), max_size=60),
    count=st.integers(-1, 20),
)
def test_chances_lie_strictly_between_0_and_1(
    text: list[int], seen: list[tuple[Ground, bool]], count: int
) -> None:
    lookup = lookup_of(text)
    for ground, right in seen:
        lookup.observe(ground, right)
    found = lookup.continuation(count)
    end, length = brute_force_match(text)
    assert (found is None) == (length == 0 or count <= 0)
    if found is not None:
        following = following_of(text_of(text), end, length, count)
        assert tokens_of(found) == [token for token, _ in following]
        assert found.count == count
        assert all(0 < chance < 1 for chance in chances_of(found))


def test_longer_matches_are_trusted_more() -> None:
    found = lookup_of([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2]).continuation(8)
    assert found is not None
    chances = chances_of(found)
    assert chances == sorted(chances)
    assert chances[0] < chances[1] < chances[7]


def first_chance(text: Sequence[int]) -> float:
    found = lookup_of(text).continuation(1)
    assert found is not None
    return chances_of(found)[0]


def test_what_followed_twice_is_trusted_more_and_what_changed_less() -> None:
    once = first_chance([1, 2, 3, 8, 1, 2])
    twice = first_chance([1, 2, 3, 8, 1, 2, 3, 9, 1, 2])
    contrary = first_chance([1, 2, 4, 8, 1, 2, 3, 9, 1, 2])
    assert contrary < once < twice


@pytest.mark.parametrize("right", [True, False])
def test_chances_move_with_what_is_observed(right: bool) -> None:
    lookup = lookup_of([1, 2, 3, 4, 1, 2])
    found = lookup.continuation(3)
    assert found is not None
    before = chances_of(found)
    for _ in range(200):
        lookup.observe(found.ground(0), right)
    after = chances_of(found)
    assert after[0] == pytest.approx(float(right), abs=0.01)
    assert after[1:] == before[1:], "matches of other lengths"


def test_every_token_is_observed_where_its_chance_is_taken_from() -> None:
    text = [1, 2, 3, 4, 1, 2]  # a match of length 2
    for depth in range(20):
        lookup = lookup_of(text)
        found = lookup.continuation(20)
        assert found is not None
        before = chances_of(found)
        lookup.observe(found.ground(depth), False)
        assert chances_of(found)[depth] < before[depth]


def test_a_copy_is_judged_up_to_the_first_wrong_token() -> None:
    lookup = lookup_of([1, 2, 3, 4, 5, 1, 2])
    found = lookup.continuation(3)
    assert found is not None
    before = chances_of(found)
    found.observe([3, 9, 9])
    after = chances_of(found)
    assert after[0] > before[0]
    assert after[1] < before[1]
    assert after[2] == before[2]


def propose_one(source: LookupSource, key: object, tokens: Sequence[int]) -> Draft | None:
    (draft,) = source.propose([wanted(tokens, key)])
    return draft


def first_guess(draft: Draft | None) -> Mapping[int, float]:
    return {} if draft is None else draft.guesses(ROOT)


@pytest.mark.parametrize("cut", range(len(REPEATING)))
def test_a_text_is_continued_from_whenever_it_is_asked_for(cut: int) -> None:
    source, key = LookupSource(4), Key()
    propose_one(source, key, REPEATING[:cut])
    assert set(first_guess(propose_one(source, key, REPEATING))) == {3}
    assert set(first_guess(propose_one(source, key, (*REPEATING, 3)))) == {4}


def test_a_text_that_is_asked_for_again_is_not_read_twice() -> None:
    source, key = LookupSource(4), Key()
    propose_one(source, key, REPEATING)
    again = propose_one(source, key, REPEATING)
    assert first_guess(again) == first_guess(propose_one(source, Key(), REPEATING))


def test_a_long_prompt_taken_over_from_the_cache_is_continued_at_once() -> None:
    text = [*range(50_000), *range(50_000), 0]
    assert set(first_guess(propose_one(LookupSource(4), Key(), text))) == {1}


def test_what_is_known_of_a_request_goes_with_it_and_not_when_garbage_is_collected() -> None:
    source, key = LookupSource(4), Key()
    propose_one(source, key, REPEATING)
    gone = weakref.ref(source._lookups[key])
    gc.disable()
    try:
        del key
        assert gone() is None
    finally:
        gc.enable()


def test_a_copy_is_judged_once_and_in_its_own_request() -> None:
    source, key, other = LookupSource(4), Key(), Key()
    before = first_guess(propose_one(source, other, REPEATING))
    propose_one(source, key, REPEATING)
    source.observe(key, [9])
    once = first_guess(propose_one(source, key, REPEATING))
    assert once[3] < before[3]
    source.observe(key, [])
    source.observe(key, [9])
    assert first_guess(propose_one(source, key, REPEATING)) == once
    assert first_guess(propose_one(source, other, REPEATING)) == before


@pytest.mark.parametrize(("max_tokens", "max_depth", "count"), [(4, 2, 2), (3, 10, 3), (4, 0, 0)])
def test_no_more_is_copied_than_a_tree_can_hold(
    max_tokens: int, max_depth: int, count: int
) -> None:
    (draft,) = LookupSource(max_tokens).propose([wanted(REPEATING, max_depth=max_depth)])
    assert (draft.count if isinstance(draft, Continuation) else 0) == count
