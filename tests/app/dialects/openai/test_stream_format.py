"""Streams byte for byte: clients that read them by hand are many."""

import json
import re
from typing import Any

import pytest

from medusa.engine.events import FailureKind, FinishReason
from tests.app.fake_backend import FakeBackend, Script
from tests.app.in_process import served

CHAT = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
COMPLETION = {"prompt": "Hi", "stream": True}


def stream_of(backend: FakeBackend, path: str, body: dict[str, Any]) -> bytes:
    with served(backend) as client:
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Accel-Buffering"] == "no"
        return answer.content


def normalised(raw: bytes) -> str:
    text = re.sub(
        r'"id":"(\w+)-\w+","object":"([\w.]+)","created":\d+',
        r'"id":"\1","object":"\2"',
        raw.decode(),
    )
    text = re.sub(r',"system_fingerprint":"llama-medusa-[\w.]+"', "", text)
    return re.sub(r',"timings":{[^}]+"draft_n":5,"draft_n_accepted":2}', "", text)


def test_a_chat_stream() -> None:
    text = normalised(stream_of(FakeBackend(), "/v1/chat/completions", CHAT))
    head = 'data: {"id":"chatcmpl","object":"chat.completion.chunk","model":"fake","choices":['
    choice = '{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}]}\n\n'
    assert text == "".join(
        [
            head + choice % ('{"role":"assistant","content":""}', "null"),
            head + choice % ('{"content":"Hello"}', "null"),
            head + choice % ('{"content":" there"}', "null"),
            head + choice % ("{}", '"stop"'),
            "data: [DONE]\n\n",
        ]
    )


def test_a_completion_stream_with_usage() -> None:
    body = COMPLETION | {"stream_options": {"include_usage": True}}
    backend = FakeBackend([Script(["One"], FinishReason.LENGTH)])
    text = normalised(stream_of(backend, "/v1/completions", body))
    head = 'data: {"id":"cmpl","object":"text_completion","model":"fake","choices":'
    choice = '[{"text":"%s","index":0,"logprobs":null,"finish_reason":%s}],"usage":null}\n\n'
    assert text == "".join(
        [
            head + choice % ("One", "null"),
            head + choice % ("", '"length"'),
            head + '[],"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5,'
            '"prompt_tokens_details":{"cached_tokens":1},"completion_tokens_details":'
            '{"reasoning_tokens":0,"accepted_prediction_tokens":2,"rejected_prediction_tokens":3}}}\n\n',
            "data: [DONE]\n\n",
        ]
    )


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETION)]
)
def test_no_carriage_return_is_sent(path: str, body: dict[str, Any]) -> None:
    raw = stream_of(FakeBackend([Script(["a\r\nb"])]), path, body)
    assert b"\r" not in raw
    assert rb"a\r\nb" in raw  # as JSON writes it


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (FailureKind.STOPPED, "shutting_down"),
        (FailureKind.NOT_NUMBERS, "not_numbers"),
        (FailureKind.COSTLY_GRAMMAR, "limit_exceeded"),
        (FailureKind.INTERNAL, "internal_error"),
    ],
)
def test_an_error_in_a_stream_is_its_last_chunk(kind: FailureKind, code: str) -> None:
    backend = FakeBackend([Script(["One"], failure=kind)])
    *_, first, error, done, rest = stream_of(backend, "/v1/completions", COMPLETION).split(b"\n\n")
    assert json.loads(first.removeprefix(b"data: "))["choices"][0]["text"] == "One"
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == code
    assert (done, rest) == (b"data: [DONE]", b"")


def test_streams_of_several_choices_say_whose_chunk_it_is() -> None:
    backend = FakeBackend([Script(["a", "b"]), Script(["c"])])
    raw = stream_of(backend, "/v1/chat/completions", CHAT | {"n": 2})
    texts = {0: "", 1: ""}
    for line in raw.decode().split("\n\n")[:-2]:
        (choice,) = json.loads(line.removeprefix("data: "))["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == {0: "ab", 1: "c"}
