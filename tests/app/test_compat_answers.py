"""What clients of llama-server and of OpenAI find in answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.backend import LocalBackend
from medusa.engine.config import EngineConfig
from medusa.loading import open_model
from tests.app.fake_backend import FakeBackend, Script
from tests.app.in_process import served
from tests.app.tiny_model import write_tiny_model

USER = {"role": "user", "content": "Hi"}
CHAT = {"messages": [USER]}
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
CONFIG = EngineConfig(n_slots=2, n_ctx=512, n_threads=1, draft_nodes=0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    path: Path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_tiny_model(path, chat_template=TEMPLATE)
    with served(LocalBackend(open_model(path, config=CONFIG))) as client:
        yield client


def frames(client: TestClient, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    lines = client.post(path, json=body | {"stream": True}).text.split("\n\n")
    data = [line.removeprefix("data: ") for line in lines if line]
    return [json.loads(each) for each in data if each != "[DONE]"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "abc"}),
        ("/v1/chat/completions", CHAT),
        ("/completion", {"prompt": "abc"}),
    ],
)
def test_answers_tell_what_they_took(tiny: TestClient, path: str, body: dict[str, Any]) -> None:
    body = body | {"max_tokens": 8, "ignore_eos": True}
    whole = tiny.post(path, json=body).json()["timings"]
    *pieces, last = frames(tiny, path, body | {"timings_per_token": True})
    for timings in (whole, last["timings"]):
        assert timings["predicted_n"] == 8
        assert timings["prompt_n"] + timings["cache_n"] > 1
        assert timings["predicted_ms"] > 0
        assert timings["prompt_ms"] > 0
        rate = (timings["predicted_n"] - 1) / timings["predicted_ms"] * 1000
        assert timings["predicted_per_second"] == pytest.approx(rate)
    counts = [piece["timings"]["predicted_n"] for piece in pieces if "timings" in piece]
    assert counts == sorted(counts)
    assert len(counts) >= 1
    assert not any("timings" in piece for piece in frames(tiny, path, body)[:-1])


def test_an_answer_that_takes_too_long_ends_with_its_line(tiny: TestClient) -> None:
    body = {"prompt": "ab", "max_tokens": 400, "ignore_eos": True, "t_max_predict_ms": 1}
    newline = tiny.post("/tokenize", json={"content": "\n"}).json()["tokens"][0]
    answer = tiny.post("/completion", json=body | {"logit_bias": [[newline, 100.0]]}).json()
    assert answer["stop_type"] == "limit"
    assert 1 <= answer["tokens_predicted"] < 400


def test_log_probabilities_hold_the_chosen_token_and_every_likely_one(tiny: TestClient) -> None:
    body = {"prompt": "🙂🙃", "echo": True, "logprobs": 5, "max_tokens": 0}
    logprobs = tiny.post("/v1/completions", json=body).json()["choices"][0]["logprobs"]
    for token, chosen, top in zip(
        logprobs["tokens"][1:],
        logprobs["token_logprobs"][1:],
        logprobs["top_logprobs"][1:],
        strict=True,
    ):
        assert top[token] == chosen
        assert 5 <= len(top) <= 6
        assert list(top.values())[:5] == sorted(top.values(), reverse=True)[:5]


def test_a_last_message_of_the_assistant_is_continued(tiny: TestClient) -> None:
    def prompt(last: dict[str, Any], **fields: Any) -> str:
        body = {"messages": [USER, last], **fields}
        answer = tiny.post("/apply-template", json=body)
        assert answer.status_code == 200, answer.text
        text: str = answer.json()["prompt"]
        return text

    said = {"role": "assistant", "content": "Well,"}
    continued, opened = "[user]Hi\n[assistant]Well,", "[user]Hi\n[assistant]Well,\n[assistant]"
    assert prompt(said) == prompt(said, continue_final_message=True) == continued
    assert prompt(said, add_generation_prompt=True) == opened
    assert prompt(said, continue_final_message=False) == opened
    assert prompt(said, continue_final_message=False, add_generation_prompt=False) == (
        "[user]Hi\n[assistant]Well,\n"
    )
    assert prompt({"role": "assistant", "content": ""}) == "[user]Hi\n[assistant]\n[assistant]"


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [USER], "continue_final_message": True},
        {
            "messages": [USER, {"role": "assistant", "content": "a"}],
            "continue_final_message": True,
            "add_generation_prompt": True,
        },
    ],
)
def test_what_cannot_be_continued_is_said(tiny: TestClient, fields: dict[str, Any]) -> None:
    answer = tiny.post("/v1/chat/completions", json=fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "continue_final_message"


def test_a_prompt_is_counted_as_it_is_answered(tiny: TestClient) -> None:
    counted = tiny.post("/v1/chat/completions/input_tokens", json=CHAT).json()
    answer = tiny.post("/v1/chat/completions", json=CHAT | {"max_tokens": 1}).json()
    assert counted["input_tokens"] == answer["usage"]["prompt_tokens"]


def test_pieces_are_texts_or_bytes() -> None:
    with served(FakeBackend()) as client:
        answer = client.post("/tokenize", json={"content": "aé", "with_pieces": True}).json()
        assert answer == {
            "tokens": [
                {"id": 97, "piece": "a"},
                {"id": 195, "piece": [195]},
                {"id": 169, "piece": [169]},
            ]
        }
        assert client.post("/tokenize", json={}).json() == {"tokens": []}


def test_the_native_format_tells_all_of_an_answer() -> None:
    scripts = [Script(["One", " two\n"], stop="three")]
    body = {"prompt": "ab", "n_predict": 7, "temperature": 0, "n_probs": 1, "return_tokens": True}
    with served(FakeBackend(scripts)) as client:
        answer = client.post("/completion", json=body).json()
        assert answer["content"] == "One two\n"
        assert answer["tokens"] == list(b"One two\n")
        assert (answer["stop"], answer["stop_type"], answer["stopping_word"]) == (
            True,
            "word",
            "three",
        )
        assert (answer["prompt"], answer["tokens_evaluated"]) == ("ab", 2)
        assert (answer["has_new_line"], answer["truncated"]) == (True, False)
        assert answer["generation_settings"]["n_predict"] == 7
        assert answer["generation_settings"]["temperature"] == 0
        assert len(answer["completion_probabilities"]) == 8
        assert answer["completion_probabilities"][0]["id"] == ord("O")

        *pieces, end = frames(client, "/completion", body)
        assert "".join(piece["content"] for piece in pieces) == "One two\n"
        assert [piece["stop"] for piece in (*pieces, end)] == [False, False, True]
        assert (end["content"], end["tokens_predicted"]) == ("", 8)

        several = client.post("/completion", json=body | {"prompt": ["a", "b"]}).json()
        assert [each["prompt"] for each in several] == ["a", "b"]
        fields = {"response_fields": ["content", "generation_settings/n_predict", "x/y"]}
        chosen = client.post("/completion", json=body | fields).json()
        assert chosen == {"content": "One two\n", "generation_settings/n_predict": 7}
