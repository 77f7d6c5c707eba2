"""JSON bodies: what is refused before it costs anything, and what is parsed where."""

import asyncio
import threading
from typing import Any

import httpx
import pytest

from app.dialects.native import tokens
from app.dialects.openai.chat import ChatBody
from app.dialects.openai.completions import CompletionBody, CompletionJob
from app.door.bounded_json import check_shape
from app.door.config import DoorConfig
from app.door.limits import RequestLimits
from app.door.refusals import RefusedError
from tests.app.fake_backend import FakeBackend
from tests.app.in_process import served
from tests.app.over_http import Listening, listening

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b'{"a":1}', 16),
        (b'{"a":[1,2,3]}', 26),
        (b'["a,b,[{:", "\\",\\"", "\\\\"]', 10),
        (b'["' + b"\\" * 20 + b'",1]', 9),
        (b'"' + b"," * 1000 + b'"', 0),
        (b"[" * 100, 800),
        (b'"' * 1000 + b"," * 500, 500),
    ],
)
def test_values_are_counted_outside_of_texts(body: bytes, values: int) -> None:
    check_shape(body, RequestLimits(max_values=values))
    if values:
        with pytest.raises(RefusedError, match="too many values"):
            check_shape(body, RequestLimits(max_values=values - 1))


def test_quotes_without_values_are_not_counted_for_ever() -> None:
    with pytest.raises(RefusedError, match="too many values"):
        check_shape(b'["",' + b'"\\"' * 1000 + b"," * 10, RequestLimits(max_values=10))


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt":[' + b",".join([b"[]"] * 1000) + b"]}",
        b'{"prompt":"a","metadata":{"a":[' + b",".join([b"{}"] * 1000) + b"]}}",
        b"{" + b",".join(b'"%d":1' % i for i in range(1000)) + b"}",
    ],
)
def test_many_values_are_refused_before_they_are_parsed(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        CompletionBody, "model_validate_json", lambda *_, **__: pytest.fail("parsed")
    )
    with served(FakeBackend(), door=DoorConfig(limits=RequestLimits(max_values=1000))) as client:
        answer = client.post("/v1/completions", content=body, headers=JSON)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "too_many_values"
        assert "at most 1,000 are read (--max-values)" in error["message"]


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"", "no_body", "the body is empty; send a JSON object"),
        (b"[" * 300, "too_deep", "at most 200 levels are read (--max-nesting)"),
        (b'{"prompt":"a","metadata":{"a":' + b"[" * 5000, "too_deep", "at most 200"),
        (b"{", None, "not valid JSON"),
        (b'{"prompt":"\xff"}', None, "not valid JSON"),
        (b'{"prompt":"a","seed":' + b"1" * 5000 + b"}", None, "not valid JSON"),
        (b"3", None, "object"),
        (b'{"prompt":"a","temperature":NaN}', None, "temperature: Input should be a finite"),
        (b'{"prompt":"a","temperature":1e999}', None, "temperature: Input should be a finite"),
        (b'{"prompt":"a","n":true}', None, "n: Input should be a valid integer"),
        (b'{"prompt":"a","n":"2"}', None, "n: Input should be a valid integer"),
        (b'{"prompt":"a","max_tokens":1.0}', None, "max_tokens: Input should be a valid integer"),
        (b'{"prompt":"a","stream":1}', None, "stream: Input should be a valid boolean"),
        (b'{"prompt":[1,true]}', None, "prompt: must be"),
        (b'{"prompt":[[1],[]]}', None, "prompt: must be"),
        (b'{"prompt":"a","repetition_penalty":1e-38}', None, "repetition_penalty: Input should"),
        (b'{"prompt":"a","stop":[' + b'"a",' * 256 + b'"a"]}', "limit_exceeded", "stop: 257 are"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_body_is_said(body: bytes, code: str | None, message: str) -> None:
    with served(FakeBackend()) as client:
        answer = client.post("/v1/completions", content=body, headers=JSON)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == code
        assert message in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"prompt":"a"}',  # PowerShell's
        b'{"prompt":"a","temperature":1}',
        b'{"prompt":"a","logit_bias":{"5":1}}',
        b'{"prompt":"a","seed":1,"seed":2}',
    ],
)
def test_what_clients_send_is_read(body: bytes) -> None:
    with served(FakeBackend()) as client:
        answer = client.post("/v1/completions", content=body, headers=JSON)
        assert answer.status_code == 200, answer.text


def test_curl_without_a_content_type_is_understood_but_not_a_page() -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    with served(FakeBackend()) as client:
        for headers in (form, {}, {"Content-Type": "text/plain"}):
            body = b'{"prompt":"a"}'
            assert client.post("/v1/completions", content=body, headers=headers).is_success
            for page in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
                answer = client.post("/v1/completions", content=body, headers=headers | page)
                assert answer.status_code == 415
                assert "Content-Type: application/json" in answer.json()["error"]["message"]
        page = JSON | {"Origin": "http://localhost"}
        assert client.post("/v1/completions", content=body, headers=page).is_success


def answers_meanwhile(
    server: Listening, go_on: "Blocking", body: dict[str, Any], path: str = "/v1/completions"
) -> None:
    """Post what will block until `go_on`, and see that the server answers others meanwhile."""

    async def run() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=600) as client:
            working = asyncio.create_task(client.post(path, json=body))
            while not go_on.blocked.is_set():
                assert not working.done(), "it never blocked"
                await asyncio.sleep(0.01)
            assert (await client.get("/health")).status_code == 200
            assert not working.done()
            go_on.set()
            assert (await working).status_code == 200

    asyncio.run(run())


class Blocking(threading.Event):
    """Waits wherever it is called, and says so."""

    def __init__(self) -> None:
        super().__init__()
        self.blocked = threading.Event()

    def __call__(self) -> None:
        self.blocked.set()
        self.wait()


def test_others_are_answered_while_a_large_body_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    block, parse = Blocking(), CompletionBody.model_validate_json

    def slow(*args: Any, **options: Any) -> CompletionBody:
        block()
        return parse(*args, **options)

    monkeypatch.setattr(CompletionBody, "model_validate_json", slow)
    with listening(FakeBackend()) as server:
        answers_meanwhile(server, block, {"prompt": "Hi", "metadata": {"a": "x" * 100_000}})


def test_others_are_answered_while_requests_are_taken_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block, submit = Blocking(), FakeBackend.submit

    def slow(backend: FakeBackend, *args: Any) -> None:
        block()
        submit(backend, *args)

    monkeypatch.setattr(FakeBackend, "submit", slow)
    with listening(FakeBackend()) as server:
        answers_meanwhile(server, block, {"prompt": "Hi"})


def test_others_are_answered_while_an_answer_is_put_into_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block, answer = Blocking(), CompletionJob.answer

    def slow(job: CompletionJob, *args: Any) -> Any:
        block()
        return answer(job, *args)

    monkeypatch.setattr(CompletionJob, "answer", slow)
    with listening(FakeBackend()) as server:
        answers_meanwhile(server, block, {"prompt": "Hi"})


@pytest.mark.parametrize(
    ("path", "body", "speller"),
    [
        ("/tokenize", {"content": "Hi", "with_pieces": True}, "_piece"),
        ("/detokenize", {"tokens": [72]}, "spell"),
    ],
)
def test_others_are_answered_while_tokens_are_spelled(
    path: str, body: dict[str, Any], speller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    block, spell = Blocking(), getattr(tokens, speller)

    def slow(*args: Any) -> Any:
        block()
        return spell(*args)

    monkeypatch.setattr(tokens, speller, slow)
    with listening(FakeBackend()) as server:
        answers_meanwhile(server, block, body, path)


def test_others_are_answered_while_a_prompts_scores_are_put_into_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block, scores = Blocking(), CompletionJob._prompt_logprobs

    def slow(job: CompletionJob, *args: Any) -> Any:
        block()
        return scores(job, *args)

    monkeypatch.setattr(CompletionJob, "_prompt_logprobs", slow)
    with listening(FakeBackend()) as server:
        body = {"prompt": "Hi", "echo": True, "logprobs": 1, "max_tokens": 1, "stream": True}
        answers_meanwhile(server, block, body)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "Hi", "logprobs": 4, "max_tokens": 201}),
        ("/v1/completions", {"prompt": "Hi", "logprobs": 4, "max_tokens": 101, "n": 2}),
        ("/v1/completions", {"prompt": "Hi", "logprobs": 4, "max_tokens": -1}),
        ("/v1/completions", {"prompt": "a" * 300, "echo": True, "logprobs": 4, "stream": True}),
        ("/v1/chat/completions", {"logprobs": True, "top_logprobs": 4}),
    ],
)
def test_log_probabilities_that_are_kept_have_a_limit(path: str, body: dict[str, Any]) -> None:
    message = {"messages": [{"role": "user", "content": "Hi"}]} if "chat" in path else {}
    with served(FakeBackend(), door=DoorConfig(limits=RequestLimits(max_logprobs=1000))) as client:
        answer = client.post(path, json=body | message)
        assert answer.status_code == 400
        assert "at most 1,000 are kept (--max-logprobs)" in answer.json()["error"]["message"]
        for allowed in ({"stream": True, "echo": False}, {"logprobs": 0}):
            if "chat" not in path:
                assert client.post(path, json=body | allowed).is_success


def test_messages_that_are_all_wrong_are_one_error() -> None:
    body = b'{"messages":[' + b",".join([b"{}"] * 1000) + b"]}"
    with pytest.raises(ValueError, match="2 validation errors"):
        ChatBody.model_validate_json(body)
