from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.drafting.lookup import Lookup, NgramIndex

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
    """The newest earlier place of the newest 4 tokens, else of the newest 3, else 2."""
    for size in (4, 3, 2):
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


@pytest.mark.parametrize("text", [[], [1], [1, 2], [1, 2, 3, 4, 5], [1, 2, 1]])
def test_a_text_without_repetition_has_no_match(text: list[int]) -> None:
    assert index_of(text).match() == (0, 0)
    assert lookup_of(text).continuation(4) is None


@given(text=st.lists(st.integers(0, 2), min_size=1, max_size=40), data=st.data())
def test_what_followed_goes_on_periodically_past_the_end(
    text: list[int], data: st.DataObject
) -> None:
    end = data.draw(st.integers(0, len(text) - 1))
    count = data.draw(st.integers(0, 100))
    following = index_of(text).following(end, count)
    assert len(following) == count
    whole = [*text]
    for place, token in enumerate(following):
        assert token == whole[end + place]
        whole.append(token)


@given(period=st.integers(1, 6), extra=st.integers(0, 5), count=st.integers(1, 20))
def test_a_text_that_repeats_is_continued_as_it_repeats(
    period: int, extra: int, count: int
) -> None:
    text = list(range(period)) * 40
    n_written = 4 * period + 4 + extra
    found = lookup_of(text[:n_written]).continuation(count)
    assert found is not None
    assert found[0].tokens == tuple(text[n_written : n_written + count])


@given(
    text=texts,
    seen=st.lists(st.tuples(st.integers(2, 40), st.booleans()), max_size=60),
    count=st.integers(-1, 20),
)
def test_chances_lie_strictly_between_0_and_1(
    text: list[int], seen: list[tuple[int, bool]], count: int
) -> None:
    lookup = lookup_of(text)
    for length, right in seen:
        lookup.observe(length, right)
    found = lookup.continuation(count)
    end, length = brute_force_match(text)
    assert (found is None) == (length == 0 or count <= 0)
    if found is not None:
        continuation, match = found
        assert match == length
        assert continuation.tokens == index_of(text).following(end, count)
        assert len(continuation.chances) == count
        assert all(0 < chance < 1 for chance in continuation.chances)


def test_longer_matches_are_trusted_more() -> None:
    found = lookup_of([1, 2, 3, 4, 1, 2]).continuation(20)
    assert found is not None
    continuation, length = found
    assert length == 2
    assert list(continuation.chances) == sorted(continuation.chances)
    assert continuation.chances[0] < continuation.chances[3] < continuation.chances[15]


@pytest.mark.parametrize("right", [True, False])
def test_chances_move_with_what_is_observed(right: bool) -> None:
    lookup = lookup_of([1, 2, 3, 4, 1, 2])
    before = lookup.continuation(3)
    for _ in range(200):
        lookup.observe(2, right)
    after = lookup.continuation(3)
    assert before is not None
    assert after is not None
    assert after[0].chances[0] == pytest.approx(float(right), abs=0.01)
    assert after[0].chances[1:] == before[0].chances[1:], "matches of other lengths"


def test_every_length_is_observed_where_its_chance_is_taken_from() -> None:
    text = [1, 2, 3, 4, 1, 2]  # a match of length 2
    for depth in range(20):
        lookup = lookup_of(text)
        before = lookup.continuation(20)
        lookup.observe(2 + depth, False)
        after = lookup.continuation(20)
        assert before is not None
        assert after is not None
        assert after[0].chances[depth] < before[0].chances[depth]
