"""Where tokens are in the text that a client sees."""

from app.dialects.openai.logprobs import TextOffsets, prompt_parts


def test_half_characters_and_hidden_tokens_take_no_room() -> None:
    offsets = TextOffsets(3)
    assert offsets.of([b"a", b"\xc3"]) == [3, 4]
    assert offsets.of([b"\xa9", b"", b"b", b"\xff", b"c"]) == [4, 5, 5, 6, 7]


def test_what_a_tokenizer_adds_is_no_part_of_the_text() -> None:
    pieces = [b"<s>", b" ab", b"</s>", b"c", b" "]
    assert prompt_parts(pieces, [0, 1, 3], b"abc") == [b"", b"ab", b"c"]
    assert prompt_parts(pieces, [0, 1, 2, 1], b"ab</s>ab") == [b"", b"ab", b"</s>", b"ab"]
    assert prompt_parts(pieces, [0, 0, 1], b"<s>ab") == [b"<s>", b"", b"ab"]
    assert prompt_parts(pieces, [0, 4, 1], b" ab") == [b"", b" ", b"ab"]


def test_what_a_tokenizer_leaves_out_is_a_part_of_it() -> None:
    assert prompt_parts([b"<|user|>", b"c"], [0, 1], b"<|user|>\nc") == [b"<|user|>", b"\nc"]
