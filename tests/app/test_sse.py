"""Server-sent events: their form."""

from app.sse import frame, json_frame


def test_a_frame_is_a_line_for_its_type_one_for_its_data_and_an_empty_one() -> None:
    assert frame(b"[DONE]") == b"data: [DONE]\n\n"
    assert frame(b"{}", "ping") == b"event: ping\ndata: {}\n\n"


def test_data_is_one_line_of_json_whatever_is_in_it() -> None:
    data = {"text": "a\r\nb\u2028é", "logprob": float("-inf")}
    assert json_frame(data) == 'data: {"text":"a\\r\\nb\u2028é","logprob":null}\n\n'.encode()
