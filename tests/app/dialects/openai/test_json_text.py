import pytest

from app.dialects.openai import json_text


def test_a_value_is_read() -> None:
    assert json_text.parse('{"a": [1, null]}') == {"a": [1, None]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[" * 10_000, "recursion limit"),
        ("[]," * json_text.MAX_CHARACTERS, "is longer than 1,000,000 characters"),
    ],
)
def test_what_cannot_be_read_is_explained(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        json_text.parse(text)
