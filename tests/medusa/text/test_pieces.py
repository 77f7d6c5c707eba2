import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.text.pieces import TextStream


def pieces_of(text: str, cuts: list[int]) -> list[bytes]:
    raw = text.encode()
    edges = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    return [raw[a:b] for a, b in itertools.pairwise(edges)]


@given(
    text=st.text(alphabet="abüΩ語🙂", max_size=30),
    cuts=st.lists(st.integers(0, 200)),
    stop=st.lists(st.text(alphabet="abü語", min_size=1, max_size=4), max_size=3),
)
def test_stream_shows_the_text_before_the_first_stop_string(
    text: str, cuts: list[int], stop: list[str]
) -> None:
    stream = TextStream(stop)
    shown, stopped = "", False
    for piece in pieces_of(text, cuts):
        chunk = stream.feed(piece)
        shown += chunk.text
        assert "\ufffd" not in chunk.text, "a character was split"
        if chunk.stopped:
            stopped = True
            break
    if not stopped:
        last = stream.finish()
        shown += last.text
        stopped = last.stopped
    found = [text.find(s) for s in stop if s in text]
    assert stopped == bool(found) == (stream.ended_by is not None)
    if stream.ended_by is not None:
        assert stream.ended_by in stop  # of several that overlap, the one that was whole first
        assert shown == text[: text.find(stream.ended_by)]
    assert not any(s in shown for s in stop)
    if not found:
        assert shown == text
    else:
        # several stop strings may end in the same step; the text ends before the first of them
        assert text.startswith(shown)
        assert len(shown) >= min(found)


@pytest.mark.parametrize(
    ("pieces", "shown", "ended_by"), [(["abc", "d"], "a", "bc"), (["ab", "cd"], "", "abcd")]
)
def test_the_first_stop_string_that_is_whole_ends_the_text(
    pieces: list[str], shown: str, ended_by: str
) -> None:
    stream = TextStream(["abcd", "bc"])
    text = ""
    for piece in pieces:
        chunk = stream.feed(piece.encode())
        text += chunk.text
        if chunk.stopped:
            break
    assert (text, stream.ended_by) == (shown, ended_by)


@pytest.mark.parametrize("piece", ["EN", "E", "END"])
def test_what_may_become_a_stop_string_waits(piece: str) -> None:
    stream = TextStream(["ENDE"])
    assert stream.feed(f"text {piece}".encode()).text == "text "
    assert stream.feed(b" of it").text == f"{piece} of it"


def test_half_a_character_waits_for_its_rest() -> None:
    stream = TextStream()
    raw = "🙂".encode()
    assert stream.feed(raw[:3]).text == ""
    assert stream.feed(raw[3:]).text == "🙂"


def test_half_a_character_at_the_end_is_replaced() -> None:
    stream = TextStream()
    stream.feed("🙂".encode()[:2])
    assert stream.finish().text == "\ufffd"


def test_nothing_follows_a_stop_string_not_even_half_a_character() -> None:
    stream = TextStream([" "])
    chunk = stream.feed("one 🙂".encode()[:6])  # the space, and two of the four bytes
    assert (chunk.text, chunk.stopped) == ("one", True)
    assert stream.finish().text == ""
