from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.speculation.alignment import Alignment

TEXT = tuple(range(100, 160))


def after(answer: Sequence[int], predicted: Sequence[int] = TEXT) -> Alignment:
    alignment = Alignment(predicted)
    for token in answer:
        alignment.feed(token)
    return alignment


def test_an_answer_as_predicted_is_followed_to_its_end() -> None:
    alignment = Alignment(TEXT)
    for token in TEXT:
        assert alignment.expected(alignment.place) == token
        alignment.feed(token)
    assert alignment.expected(alignment.place) is None
    assert alignment.n_seen == len(TEXT)


@pytest.mark.parametrize(
    ("changed", "n_seen"),
    [
        ((*TEXT[:20], 7, *TEXT[21:]), 59),  # replaced
        ((*TEXT[:20], 7, 8, 9, *TEXT[23:]), 57),
        ((*TEXT[:20], 7, 8, 9, *TEXT[20:]), 60),  # inserted
        ((*TEXT[:20], *TEXT[23:]), 57),  # deleted
        ((*TEXT[:20], *TEXT[40:50], *TEXT[20:40]), 50),  # moved
        ((7, 8, *TEXT[2:]), 58),
    ],
)
def test_after_a_difference_the_place_is_found_again(changed: tuple[int, ...], n_seen: int) -> None:
    wrong = 0
    alignment = Alignment(TEXT)
    for token in changed:
        wrong += alignment.expected(alignment.place) != token
        alignment.feed(token)
    assert wrong <= 4
    assert alignment.n_seen == n_seen


def test_of_several_places_the_nearest_is_taken() -> None:
    line = (1, 2, 3, 4, 5)
    predicted = (*line, 11, *line, 12, *line, 13, *line, 14)
    alignment = after((*line, 11, *line[:2], 99, *line[3:]), predicted)
    assert alignment.expected(alignment.place) == 12


@given(
    predicted=st.lists(st.integers(0, 3), max_size=30),
    answer=st.lists(st.integers(0, 4), max_size=40),
)
def test_any_answer_is_followed(predicted: list[int], answer: list[int]) -> None:
    alignment = Alignment(predicted)
    for answer_length, token in enumerate(answer):
        alignment.feed(token)
        assert 0 <= alignment.place <= len(predicted)
        assert 0 <= alignment.agreed <= alignment.place
        agreed = predicted[alignment.place - alignment.agreed : alignment.place]
        seen = answer[: answer_length + 1]
        assert agreed == seen[len(seen) - len(agreed) :]
    assert alignment.n_seen <= min(len(predicted), len(answer) * 2)
