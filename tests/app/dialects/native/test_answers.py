"""Answers in llama-server's words: probabilities, settings, why they ended, what they hold."""

import math
from typing import Any

import httpx
import pytest

from tests.app.dialects.native.conftest import TEMPLATE
from tests.app.fake_backend import THINKING, FakeBackend, Script
from tests.app.in_process import served


def completed(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = http.post("/completion", json={"prompt": "ab", "n_predict": 4} | fields)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_probabilities_are_those_of_drawing_if_they_are_asked_for(http: httpx.Client) -> None:
    fields = {"n_probs": 5, "post_sampling_probs": True, "ignore_eos": True, "top_k": 3, "seed": 1}
    entries = completed(http, **fields)["completion_probabilities"]
    assert len(entries) == 4
    for entry in entries:
        tops = {top["id"]: top["prob"] for top in entry["top_probs"]}
        assert tops[entry["id"]] == entry["prob"]
        assert len(tops) == 3
        assert sum(tops.values()) == pytest.approx(1)
        assert "logprob" not in entry


def test_a_greedy_choice_is_certain(http: httpx.Client) -> None:
    greedy = {"n_probs": 5, "post_sampling_probs": True, "ignore_eos": True, "temperature": 0}
    for entry in completed(http, **greedy)["completion_probabilities"]:
        assert [top["prob"] for top in entry["top_probs"]] == [entry["prob"]] == [1]


def test_without_filters_the_models_own_probabilities_are_drawn_from(http: httpx.Client) -> None:
    fields = {"n_probs": 5, "ignore_eos": False, "seed": 2}
    before = completed(http, **fields)["completion_probabilities"]
    after = completed(http, **fields, post_sampling_probs=True)["completion_probabilities"]
    for own, drawn in zip(before, after, strict=True):
        assert drawn["prob"] == pytest.approx(math.exp(own["logprob"]), rel=1e-4)


def test_settings_are_told_by_llama_servers_names(http: httpx.Client) -> None:
    settings = completed(http, seed=3, repeat_penalty=1.1, logit_bias=[[5, False], [6, 2]])[
        "generation_settings"
    ]
    assert settings["seed"] == 3
    assert settings["repeat_penalty"] == 1.1
    assert settings["logit_bias"] == [{"token": 5, "bias": None}, {"token": 6, "bias": 2}]
    assert settings["stream"] is False
    assert settings["samplers"][0] == "penalties"
    ignoring = completed(http, ignore_eos=True)["generation_settings"]["logit_bias"]
    assert [each["bias"] for each in ignoring] == [None]


def test_an_answer_that_the_context_cut_off_is_truncated(http: httpx.Client) -> None:
    assert completed(http, n_predict=-1, ignore_eos=True)["truncated"] is True
    assert completed(http, n_predict=4, ignore_eos=True)["truncated"] is False


def test_the_first_token_is_no_part_of_the_rate(http: httpx.Client) -> None:
    timings = completed(http, n_predict=1, ignore_eos=True)["timings"]
    assert timings["predicted_n"] == 1
    assert timings["predicted_per_second"] == 0


def test_a_verbose_chat_answer_has_its_prompt(http: httpx.Client) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    answer = http.post("/v1/chat/completions", json=body | {"verbose": True}).json()
    assert answer["__verbose"]["prompt"] == "[user]Hi\n[assistant]"
    assert "__verbose" not in http.post("/v1/chat/completions", json=body).json()


def test_models_and_props_tell_sizes_and_defaults(http: httpx.Client) -> None:
    (model,) = http.get("/v1/models").json()["data"]
    props = http.get("/props").json()
    assert model["meta"]["n_ctx"] == props["default_generation_settings"]["n_ctx"]
    assert model["meta"]["size"] > model["meta"]["n_params"] > model["meta"]["n_vocab"] > 256
    assert min(model["meta"]["n_embd"], model["meta"]["n_ctx_train"]) > 0
    assert props["model_path"].endswith(".gguf")
    assert props["default_generation_settings"]["params"]["temperature"] == 1
    assert props["chat_template"] == TEMPLATE
    assert props["is_sleeping"] is False


def test_texts_and_ids_are_tokenised_together(http: httpx.Client) -> None:
    assert http.post("/tokenize", json={"content": [5, "ab", 7]}).json() == {
        "tokens": [5, *http.post("/tokenize", json={"content": "ab"}).json()["tokens"], 7]
    }
    assert http.post("/tokenize", json={"content": [10**6]}).status_code == 400


def test_embeddings_come_in_the_norm_that_is_asked_for(http: httpx.Client) -> None:
    def vector(norm: int) -> list[float]:
        body = {"content": "abc", "embd_normalize": norm}
        (only,) = http.post("/embedding", json=body).json()
        (numbers,) = only["embedding"]
        openai = http.post("/v1/embeddings", json={"input": "abc", "embd_normalize": norm}).json()
        assert openai["data"][0]["embedding"] == numbers
        return list(numbers)

    assert max(map(abs, vector(0))) == pytest.approx(32760)
    assert sum(map(abs, vector(1))) == pytest.approx(1)
    assert sum(x**2 for x in vector(2)) == pytest.approx(1)
    assert sum(abs(x) ** 3 for x in vector(3)) == pytest.approx(1)
    assert http.post("/embedding", json={"content": "a", "embd_normalize": -1}).status_code == 400


def test_parts_of_text_are_embedded_as_one(http: httpx.Client) -> None:
    parts = {"content": [{"type": "text", "text": "ab"}, {"type": "text", "text": "c"}]}
    answer = http.post("/v1/embeddings", json={"input": ["abc", parts]}).json()
    assert answer["data"][0]["embedding"] == answer["data"][1]["embedding"]
    picture = {"content": [{"type": "image_url", "image_url": {"url": "data:"}}]}
    assert http.post("/v1/embeddings", json={"input": picture}).status_code == 400


def test_thoughts_and_calls_stay_in_the_content_if_that_is_asked_for() -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "?"}]}
    thinking = FakeBackend([Script(["<think>Hm</think>Yes"])], form=THINKING)
    with served(thinking) as client:
        kept = client.post("/v1/chat/completions", json=body | {"reasoning_format": "none"}).json()
        assert kept["choices"][0]["message"]["content"] == "<think>Hm</think>Yes"
        apart = client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]
        assert (apart["reasoning_content"], apart["content"]) == ("Hm", "Yes")
    text = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    tools = [{"type": "function", "function": {"name": "f"}}]
    calling = FakeBackend([Script([text])], knows_grammars=True)
    with served(calling) as client:
        raw = body | {"tools": tools, "parse_tool_calls": False}
        choice = client.post("/v1/chat/completions", json=raw).json()["choices"][0]
        assert choice["message"]["content"] == text
        assert choice["finish_reason"] == "stop"
        choice = client.post("/v1/chat/completions", json=body | {"tools": tools}).json()
        assert choice["choices"][0]["finish_reason"] == "tool_calls"
