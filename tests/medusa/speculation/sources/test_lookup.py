from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.speculation.sources.lookup import Evidence, Ground, Lookup, NgramIndex

LONGEST = 16
texts = st.lists(st.integers(0, 2), max_size=60)
patterns = st.lists(st.integers(0, 3), min_size=1, max_size=6)


def index_of(text: Sequence[int]) -> NgramIndex:
    index = NgramIndex()
    index.extend(text)
    return index


def lookup_of(text: Sequence[int]) -> Lookup:
    lookup = Lookup()
    lookup.extend(text)
    return lookup


def common_suffix(text: Sequence[int], end: int) -> int:
    """How many of the newest tokens also stand before `end`."""
    length = 0
    while length < end and text[end - 1 - length] == text[-1 - length]:
        length += 1
    return length


def brute_force_match(text: Sequence[int]) -> tuple[int, int]:
    """The newest earlier place of the newest 4 tokens, else of the newest 3, 2, 1."""
    for size in (4, 3, 2, 1):
        for end in range(len(text) - 1, size - 1, -1):
            if common_suffix(text, end) >= size:
                return end, min(common_suffix(text, end), LONGEST)
    return 0, 0


@given(text=texts)
def test_the_newest_place_of_the_longest_n_gram_is_found(text: list[int]) -> None:
    assert index_of(text).match() == brute_force_match(text)


@given(text=texts, cuts=st.lists(st.integers(0, 60), max_size=5).map(sorted))
def test_a_text_that_grows_is_indexed_like_one_given_at_once(
    text: list[int], cuts: list[int]
) -> None:
    index = NgramIndex()
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        index.extend(text[start:end])
    index.extend([])
    assert len(index) == len(text)
    assert index.match() == index_of(text).match()


@given(pattern=patterns, repeats=st.integers(2, 40))
def test_a_text_that_repeats_is_matched_by_no_more_than_the_longest_length(
    pattern: list[int], repeats: int
) -> None:
    text = pattern * repeats
    _, length = index_of(text).match()
    assert length <= LONGEST


@pytest.mark.parametrize("text", [[], [1], [1, 2], [1, 2, 3, 4, 5], [1, 1, 2]])
def test_a_text_without_repetition_has_no_match(text: list[int]) -> None:
    assert index_of(text).match() == (0, 0)
    assert lookup_of(text).continuation(4) is None


@given(text=st.lists(st.integers(0, 2), min_size=2, max_size=40), data=st.data())
def test_what_followed_goes_on_periodically_past_the_end(
    text: list[int], data: st.DataObject
) -> None:
    end = data.draw(st.integers(1, len(text) - 1))
    length = data.draw(st.integers(1, end))
    count = data.draw(st.integers(0, 100))
    following = list(index_of(text).following(end, length, count))
    assert len(following) == count
    whole = [*text]
    for place, (token, _) in enumerate(following):
        assert token == whole[end + place]
        whole.append(token)


def brute_force_evidence(text: Sequence[int], place: int, size: int) -> Evidence:
    """What speaks for the token at `place` after the `size` tokens before it."""
    ngram = text[place - size : place]
    ends = [end for end in range(size, len(text)) if text[end - size : end] == ngram]
    newest = ends[-1] if ends[-1] != place else ends[-2] if len(ends) > 1 else None
    if newest is None:
        return Evidence.ONCE
    return Evidence.TWICE if text[newest] == text[place] else Evidence.CONTRARY


@given(text=st.lists(st.integers(0, 2), min_size=2, max_size=40), data=st.data())
def test_evidence_is_what_else_followed_the_same_tokens(
    text: list[int], data: st.DataObject
) -> None:
    end = data.draw(st.integers(1, len(text) - 1))
    length = data.draw(st.integers(1, end))
    following = index_of(text).following(end, length, len(text) - end)
    for depth, (_, evidence) in enumerate(following):
        size = min(length + depth, 4)
        assert evidence is brute_force_evidence(text, end + depth, size)


@given(period=st.integers(1, 6), extra=st.integers(0, 5), count=st.integers(1, 20))
def test_a_text_that_repeats_is_continued_as_it_repeats(
    period: int, extra: int, count: int
) -> None:
    text = list(range(period)) * 40
    n_written = 4 * period + 4 + extra
    found = lookup_of(text[:n_written]).continuation(count)
    assert found is not None
    assert found.tokens == tuple(text[n_written : n_written + count])


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
        following = list(index_of(text).following(end, length, count))
        assert found.tokens == tuple(token for token, _ in following)
        assert len(found.chances) == len(found.grounds) == count
        assert all(0 < chance < 1 for chance in found.chances)


def test_longer_matches_are_trusted_more() -> None:
    found = lookup_of([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2]).continuation(8)
    assert found is not None
    assert list(found.chances) == sorted(found.chances)
    assert found.chances[0] < found.chances[1] < found.chances[7]


def first_chance(text: Sequence[int]) -> float:
    found = lookup_of(text).continuation(1)
    assert found is not None
    return found.chances[0]


def test_what_followed_twice_is_trusted_more_and_what_changed_less() -> None:
    once = first_chance([1, 2, 3, 8, 1, 2])
    twice = first_chance([1, 2, 3, 8, 1, 2, 3, 9, 1, 2])
    contrary = first_chance([1, 2, 4, 8, 1, 2, 3, 9, 1, 2])
    assert contrary < once < twice


@pytest.mark.parametrize("right", [True, False])
def test_chances_move_with_what_is_observed(right: bool) -> None:
    lookup = lookup_of([1, 2, 3, 4, 1, 2])
    before = lookup.continuation(3)
    assert before is not None
    for _ in range(200):
        lookup.observe(before.grounds[0], right)
    after = lookup.continuation(3)
    assert after is not None
    assert after.chances[0] == pytest.approx(float(right), abs=0.01)
    assert after.chances[1:] == before.chances[1:], "matches of other lengths"


def test_every_token_is_observed_where_its_chance_is_taken_from() -> None:
    text = [1, 2, 3, 4, 1, 2]  # a match of length 2
    for depth in range(20):
        lookup = lookup_of(text)
        before = lookup.continuation(20)
        assert before is not None
        lookup.observe(before.grounds[depth], False)
        after = lookup.continuation(20)
        assert after is not None
        assert after.chances[depth] < before.chances[depth]
