"""What clients of other servers send is served here too."""

import logging
from typing import Any

import pytest

from app.door.config import DoorConfig
from tests.app.fake_backend import FakeBackend
from tests.app.in_process import served

STRICT = DoorConfig(strict=True)
USER = {"role": "user", "content": "Hi"}
CHAT = {"messages": [USER]}

HARMLESS: list[dict[str, Any]] = [
    dict.fromkeys(("function_call", "functions", "audio", "prediction", "n", "stream")),
    dict.fromkeys(("stop", "logprobs", "top_logprobs", "ignore_eos", "tools", "model")),
    {"reasoning_effort": None, "seed": None, "temperature": None, "response_format": None},
    {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "functions": []},
    {"prompt_cache_key": "k", "safety_identifier": "u", "modalities": ["text"], "verbosity": "low"},
    {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
    {"cache_prompt": True, "id_slot": 0, "n_keep": -1, "n_discard": 0, "n_cache_reuse": 8},
    {"speculative.n_max": 4, "return_tokens": True, "lora": []},
    {"use_beam_search": False, "skip_special_tokens": True, "priority": 1, "documents": []},
    {"keep_alive": "5m", "num_ctx": 4096, "options": {"num_ctx": 4096}},
    {"response_format": {"type": "text", "json_schema": None}},
    {"stream_options": {"include_usage": True, "include_obfuscation": False}},
    {"top_logprobs": 0, "grammar": ""},
    {"model": ""},
    {"max_tokens": -1},
    {"max_completion_tokens": -1},
    {"n_predict": 4},
    {"n_cmpl": 1},
    {"stop": [f"\n{number}" for number in range(100)]},
    {"stop": [""]},
]


@pytest.mark.parametrize("fields", HARMLESS)
@pytest.mark.parametrize("door", [DoorConfig(), STRICT])
def test_what_cannot_change_the_answer_is_accepted(
    fields: dict[str, Any], door: DoorConfig
) -> None:
    with served(FakeBackend(), door=door) as client:
        answer = client.post("/v1/chat/completions", json=CHAT | fields)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == "Hello there"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("functions", [{"name": "f"}]),
        ("function_call", {"name": "f"}),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy"}),
        ("web_search_options", {}),
        ("post_sampling_probs", True),
        ("include_stop_str_in_output", True),
        ("skip_special_tokens", False),
        ("truncate_prompt_tokens", 10),
        ("chat_template", "{{ messages }}"),
    ],
)
def test_what_would_change_it_and_is_not_done_is_refused_by_name(name: str, value: Any) -> None:
    with served(FakeBackend()) as client:
        answer = client.post("/v1/chat/completions", json=CHAT | {name: value})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["param"], error["code"]) == (name, "unsupported_parameter")


def test_unknown_fields_are_ignored_with_a_line_for_each_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    part = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    body = {"messages": [{"role": "user", "content": [part], "shoe_size": 42}], "colour": "red"}
    with served(FakeBackend()) as client, caplog.at_level(logging.WARNING, "app"):
        for _ in range(3):
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        for number in range(500):
            client.post("/v1/completions", json={"prompt": "a", f"field{number}": 1})
    lines = [record.getMessage() for record in caplog.records]
    assert sum("'colour'" in line for line in lines) == 1
    assert sum("'shoe_size'" in line for line in lines) == 1
    assert len(lines) <= 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (CHAT | {"colour": "red"}, "colour"),
        ({"messages": [USER | {"shoe_size": 42}]}, "messages.0.shoe_size"),
        (CHAT | {"response_format": {"type": "text", "x": 1}}, "response_format.x"),
    ],
)
def test_strict_servers_refuse_unknown_fields(body: dict[str, Any], param: str) -> None:
    with served(FakeBackend(), door=STRICT) as client:
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["param"], error["code"]) == (param, "unknown_parameter")
        assert client.post("/v1/chat/completions", json=CHAT | {"model": "x"}).status_code == 404


CALL = {"id": "123456789", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("message", "read"),
    [
        ({"content": "a", "refusal": None, "audio": None, "annotations": []}, {"content": "a"}),
        ({"content": "a", "tool_calls": [], "function_call": None}, {"content": "a"}),
        (
            {"content": "a", "tool_calls": None, "id": "x", "reasoning_details": [1]},
            {"content": "a"},
        ),
        ({"content": None}, {}),
        ({}, {}),
        ({"content": None, "refusal": "I will not."}, {"content": "I will not."}),
        ({"content": "a", "reasoning_content": "b"}, {"content": "a", "reasoning_content": "b"}),
        ({"content": "a", "reasoning": "b"}, {"content": "a", "reasoning_content": "b"}),
        ({"content": "a", "thinking": "b"}, {"content": "a", "reasoning_content": "b"}),
        (
            {"content": [{"type": "thinking", "thinking": "b"}, {"type": "text", "text": "a"}]},
            {"content": [{"type": "text", "text": "a"}]},
        ),
        (
            {"content": [{"type": "output_text", "text": "a", "annotations": []}]},
            {"content": [{"type": "text", "text": "a"}]},
        ),
        (
            {"content": [{"type": "refusal", "refusal": "a"}, "b"]},
            {"content": [{"type": "text", "text": each} for each in "ab"]},
        ),
        ({"content": None, "tool_calls": [CALL | {"index": 0}]}, {"tool_calls": [CALL]}),
        (
            {"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
            {"tool_calls": [CALL | {"id": "", "function": {"name": "f", "arguments": '{"a": 1}'}}]},
        ),
        (
            {"tool_calls": [CALL | {"function": {"name": "f", "arguments": '{"a": "cut o'}}]},
            {"tool_calls": [CALL | {"function": {"name": "f", "arguments": '{"a": "cut o"}'}}]},
        ),
        (
            {"tool_calls": [CALL | {"function": {"name": "f", "arguments": ""}}]},
            {"tool_calls": [CALL]},
        ),
    ],
)
def test_answers_of_any_server_may_come_back(message: dict[str, Any], read: dict[str, Any]) -> None:
    backend = FakeBackend()
    with served(backend, door=STRICT) as client:
        body = {"messages": [USER, {"role": "assistant", **message}, USER]}
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
    assert backend.conversations[0].messages[1] == {"role": "assistant", **read}


def test_other_messages_may_hold_what_is_of_answers_only() -> None:
    backend = FakeBackend()
    extra = {"tool_calls": [], "tool_call_id": "x", "reasoning_content": "y"}
    messages = [USER | extra, {"role": "tool", "content": None, "tool_call_id": "z"}]
    with served(backend) as client:
        assert client.post("/v1/chat/completions", json={"messages": messages}).is_success
    assert backend.conversations[0].messages == [
        USER, {"role": "tool", "content": "", "tool_call_id": "z"},
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["gpt-4o-mini", "", None, "fake", "default"])
def test_one_model_goes_by_any_name(name: str | None) -> None:
    with served(FakeBackend()) as client:
        for path in ("/v1/completions", "/v1/chat/completions"):
            body = {"model": name, "prompt": "Hi"} if path == "/v1/completions" else CHAT
            answer = client.post(path, json=body | {"model": name})
            assert answer.json()["model"] == "fake"
