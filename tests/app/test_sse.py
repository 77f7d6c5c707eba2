"""Server-sent events: their form, and the comments that keep a quiet stream open."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.types import Message

from app import sse
from app.sse import EventStream, frame, json_frame

SCOPE = {"type": "http", "method": "POST", "asgi": {"spec_version": "2.3"}}


def test_a_frame_is_a_line_for_its_type_one_for_its_data_and_an_empty_one() -> None:
    assert frame(b"[DONE]") == b"data: [DONE]\n\n"
    assert frame(b"{}", "ping") == b"event: ping\ndata: {}\n\n"


def test_data_is_one_line_of_json_whatever_is_in_it() -> None:
    data = {"text": "a\r\nb\u2028é", "logprob": float("-inf")}
    assert json_frame(data) == 'data: {"text":"a\\r\\nb\u2028é","logprob":null}\n\n'.encode()


def test_a_quiet_stream_is_kept_open_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_PING_SECONDS", 0.001)
    sent: list[Message] = []
    ended: list[bool] = []
    pinged = asyncio.Event()

    async def frames() -> AsyncIterator[bytes]:
        yield frame(b"1")
        await pinged.wait()
        yield frame(b"2")

    async def send(message: Message) -> None:
        sent.append(message)
        if message.get("body") == b": ping\n\n":
            pinged.set()

    async def receive() -> Message:
        return await asyncio.Future()

    async def run() -> None:
        await EventStream(frames(), lambda: ended.append(True))(SCOPE, receive, send)
        n_sent = len(sent)
        await asyncio.sleep(0.01)
        assert len(sent) == n_sent  # nothing comes behind the end

    asyncio.run(run())
    start, *pieces, end = sent
    assert dict(start["headers"])[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert [piece["body"] for piece in pieces if b"ping" not in piece["body"]] == [
        frame(b"1"),
        frame(b"2"),
    ]
    assert end == {"type": "http.response.body", "body": b"", "more_body": False}
    assert ended == [True]
