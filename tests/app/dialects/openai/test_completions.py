import json
import math
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.dialects.openai.completions import mean_logprob
from medusa.engine.client import Generated
from medusa.engine.events import TokenLogprob
from tests.app.fake_backend import FakeBackend, Script
from tests.app.in_process import served


def complete(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/completions", json={"prompt": "Hi"} | fields)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("ab", [b"ab"]),
        ([97, 98], [b"ab"]),
        (["ab", "c"], [b"ab", b"c"]),
        ([[97, 98], [99]], [b"ab", b"c"]),
    ],
)
def test_every_kind_of_prompt_becomes_requests(prompt: Any, prompts: list[bytes]) -> None:
    backend = FakeBackend()
    with served(backend) as client:
        answer = complete(client, prompt=prompt, n=2)
    wanted = [text for text in prompts for _ in range(2)]
    assert [bytes(request.prompt) for request in backend.submitted] == wanted
    assert [choice["index"] for choice in answer["choices"]] == list(range(len(wanted)))


def test_echo_puts_the_prompt_and_its_logprobs_before_the_answer() -> None:
    with served(FakeBackend([Script(["cd"])])) as client:
        (choice,) = complete(client, prompt="ab", echo=True, logprobs=1)["choices"]
    assert choice["text"] == "abcd"
    assert choice["logprobs"]["tokens"] == ["a", "b", "c", "d"]
    assert choice["logprobs"]["token_logprobs"] == [None, -1.0, -0.5, -0.5]
    assert choice["logprobs"]["text_offset"] == [0, 1, 2, 3]


def test_the_end_token_is_among_the_log_probabilities() -> None:
    """lm-evaluation-harness drops the last one, as it asks for one token more than it scores."""
    fields: dict[str, Any] = {"prompt": "ab", "echo": True, "logprobs": 1, "max_tokens": 1}
    with served(FakeBackend([Script([], end_logprob=-0.25)])) as client:
        (choice,) = complete(client, **fields)["choices"]
        stream = client.post("/v1/completions", json=fields | {"stream": True}).text
    assert choice["text"] == "ab"
    assert choice["logprobs"]["tokens"] == ["a", "b", "\0"]
    assert choice["logprobs"]["token_logprobs"] == [None, -1.0, -0.25]
    assert choice["logprobs"]["top_logprobs"][-1] == {"\1": -0.5, "\0": -0.25}
    assert choice["logprobs"]["text_offset"] == [0, 1, 2]
    *_, last, _ = stream.split("\n\n")[:-1]
    (ending,) = json.loads(last.removeprefix("data: "))["choices"]
    assert ending["logprobs"]["token_logprobs"] == [-0.25]
    assert ending["logprobs"]["text_offset"] == [2]


def test_best_of_chooses_the_likeliest() -> None:
    scripts = [Script([text], logprob=p) for text, p in (("a", -2.0), ("b", -0.1), ("c", -1.0))]
    with served(FakeBackend(scripts)) as client:
        answer = complete(client, best_of=3, n=2)
    assert [choice["text"] for choice in answer["choices"]] == ["b", "c"]
    assert all(choice["logprobs"] is None for choice in answer["choices"])
    assert answer["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("end_logprob", [None, -3.0])
def test_best_of_does_not_prefer_an_answer_that_ends_at_once(end_logprob: float | None) -> None:
    backend = FakeBackend([Script([], end_logprob=end_logprob), Script(["real"], logprob=-1.0)])
    with served(backend) as client:
        (choice,) = complete(client, best_of=2)["choices"]
    assert choice["text"] == "real"


def test_the_end_tokens_log_probability_counts_too() -> None:
    tokens = [TokenLogprob(1, -1.0), TokenLogprob(2, -2.0)]
    end = TokenLogprob(0, -6.0)
    assert mean_logprob(Generated(logprobs=tokens)) == -1.5
    assert mean_logprob(Generated(logprobs=tokens, end_logprob=end)) == -3.0
    assert mean_logprob(Generated(end_logprob=end)) == -6.0
    assert mean_logprob(Generated()) == -math.inf
