"""JSON in bodies and in their texts: what is refused before it is parsed."""

import pytest
from pydantic_core import from_json

from app.door.bounded_json import check_shape, read_json
from app.door.limits import PARSER_NESTING, RequestLimits
from app.door.refusals import RefusedError

DEFAULT = RequestLimits()


def test_a_value_is_read() -> None:
    assert read_json('{"a": [1, null]}', DEFAULT) == {"a": [1, None]}
    assert read_json('{"a": [1, "b', DEFAULT, partial=True) == {"a": [1, "b"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[" * 10_000, r"at most 200 levels are read \(--max-nesting\)"),
        ("[" + "1," * 300_000, r"at most 262,144 are read \(--max-values\)"),
        (" " * 1_000_001, r"1,000,001 characters are too many; at most 1,000,000 \(--max-text\)"),
    ],
)
def test_what_cannot_be_read_is_explained(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_json(text, DEFAULT)


@pytest.mark.parametrize("most", [8, PARSER_NESTING])
def test_levels_are_counted_outside_of_texts(most: int) -> None:
    limits = RequestLimits(max_nesting=most)
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        fits = f'[{opening * (most - 1)}1{closing * (most - 1)},{"[]," * 999}"{"[{" * 999}"]'
        assert read_json(fits, limits) == from_json(fits)
        with pytest.raises(ValueError, match=f"at most {most} levels"):
            read_json(f"[{fits}]", limits)


def test_closing_more_than_was_opened_is_left_to_the_parser() -> None:
    check_shape(b"[" * 9 + b"]" * 10 + b"[" * 100, RequestLimits(max_nesting=9))
    with pytest.raises(RefusedError, match="at most 9 levels"):
        check_shape(b"[" * 10, RequestLimits(max_nesting=9))
