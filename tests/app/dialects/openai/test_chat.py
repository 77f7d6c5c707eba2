from typing import Any

from starlette.testclient import TestClient

from medusa.engine.events import FinishReason
from tests.app.fake_backend import FakeBackend, Script
from tests.app.in_process import served

HI = [{"role": "user", "content": "Hi"}]


def ask(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/chat/completions", json={"messages": HI} | fields)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_messages_become_a_prompt_and_events_an_answer() -> None:
    backend = FakeBackend([Script(["Hello", " there"], FinishReason.LENGTH)])
    with served(backend) as client:
        answer = ask(client, messages=[{"role": "developer", "content": "Be brief."}, *HI])
    (request,) = backend.submitted
    assert bytes(request.prompt) == b"<system>Be brief.<user>Hi"
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "fake"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello there"},
            "logprobs": None,
            "finish_reason": "length",
        }
    ]
    assert answer["usage"]["total_tokens"] == len(request.prompt) + len("Hello there")


def test_settings_reach_the_request() -> None:
    backend = FakeBackend()
    with served(backend) as client:
        ask(
            client, n=2, seed=5, temperature=0.3, max_tokens=9, max_completion_tokens=8,
            stop="END", logprobs=True, top_logprobs=4, top_k=-1, ignore_eos=True,
        )  # fmt: skip
    first, second = backend.submitted
    assert (first.sampling.seed, second.sampling.seed) == (5, 6)
    assert first.sampling.temperature == 0.3
    assert first.sampling.top_k == 0
    assert (first.max_tokens, first.stop, first.ignore_eos) == (8, ("END",), True)
    assert (first.logprobs, first.prompt_logprobs) == (4, None)
    assert first.id != second.id


def test_a_prompt_shared_by_n_answers_counts_once() -> None:
    backend = FakeBackend([Script(["ab"])])
    with served(backend) as client:
        usage = ask(client, n=3)["usage"]
    assert usage["prompt_tokens"] == len(b"<user>Hi")
    assert usage["completion_tokens"] == 3 * 2


def test_logprobs_come_with_alternatives_and_bytes() -> None:
    with served(FakeBackend([Script(["é"])])) as client:
        answer = ask(client, logprobs=True, top_logprobs=1)
    first, second = answer["choices"][0]["logprobs"]["content"]
    assert first["bytes"] + second["bytes"] == list("é".encode())
    assert first["top_logprobs"] == [{"token": "\ufffd", "logprob": -0.5, "bytes": [0xC3]}]
