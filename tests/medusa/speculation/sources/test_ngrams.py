from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.speculation.sources.ngrams import Evidence, NgramText

LONGEST = 16
tokens = st.sampled_from([0, 1, 0xD800, 0x10FFFF])
texts = st.lists(tokens, max_size=60)
patterns = st.lists(st.integers(0, 3), min_size=1, max_size=6)


def text_of(text: Sequence[int]) -> NgramText:
    grown = NgramText()
    grown.extend(text)
    return grown


def following_of(grown: NgramText, end: int, length: int, count: int) -> list[tuple[int, Evidence]]:
    """Tokens that followed a match, and what speaks for them."""
    return [(grown.token(end, i), grown.evidence(end, length, i)) for i in range(count)]


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
    assert text_of(text).match() == brute_force_match(text)


@given(text=texts, cuts=st.lists(st.integers(0, 60), max_size=5).map(sorted))
def test_a_text_that_grows_is_searched_like_one_given_at_once(
    text: list[int], cuts: list[int]
) -> None:
    grown = NgramText()
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        grown.extend(text[start:end])
    grown.extend([])
    assert len(grown) == len(text)
    assert grown.match() == text_of(text).match()


@given(pattern=patterns, repeats=st.integers(2, 40))
def test_a_text_that_repeats_is_matched_by_no_more_than_the_longest_length(
    pattern: list[int], repeats: int
) -> None:
    text = pattern * repeats
    _, length = text_of(text).match()
    assert length <= LONGEST


@pytest.mark.parametrize("text", [[], [1], [1, 2], [1, 2, 3, 4, 5], [1, 1, 2]])
def test_a_text_without_repetition_has_no_match(text: list[int]) -> None:
    assert text_of(text).match() == (0, 0)


@given(text=st.lists(tokens, min_size=2, max_size=40), data=st.data())
def test_what_followed_goes_on_periodically_past_the_end(
    text: list[int], data: st.DataObject
) -> None:
    end = data.draw(st.integers(1, len(text) - 1))
    length = data.draw(st.integers(1, end))
    count = data.draw(st.integers(0, 100))
    following = following_of(text_of(text), end, length, count)
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


@given(text=st.lists(tokens, min_size=2, max_size=40), data=st.data())
def test_evidence_is_what_else_followed_the_same_tokens(
    text: list[int], data: st.DataObject
) -> None:
    end = data.draw(st.integers(1, len(text) - 1))
    length = data.draw(st.integers(1, end))
    following = following_of(text_of(text), end, length, len(text) - end)
    for depth, (_, evidence) in enumerate(following):
        size = min(length + depth, 4)
        assert evidence is brute_force_evidence(text, end + depth, size)
