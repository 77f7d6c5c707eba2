"""Each limit of a request: it is kept in every dialect, in its words, and named with its option."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.backend import LocalBackend
from app.door.config import DoorConfig
from app.door.limits import NAMES, TEMPLATED, RequestLimits, option_of
from app.settings import ServerSettings
from medusa.engine.config import EngineConfig
from medusa.engine.pooling import Pooling
from medusa.loading import open_model
from medusa.text.renderer import MAX_CHARACTERS
from tests.app.fake_backend import FAKE, FakeBackend
from tests.app.in_process import served
from tests.app.tiny_model import write_tiny_model

Fields = dict[str, Any]

COMPLETION, NATIVE, INFILL = "/v1/completions", "/completion", "/infill"
CHAT, RESPONSE = "/v1/chat/completions", "/v1/responses"
ANTHROPIC, OLLAMA, OLLAMA_PROMPT = "/v1/messages", "/api/chat", "/api/generate"
NATIVE_EMBED = "/embedding"
EMBED, OLLAMA_EMBED, RERANK, TOKENIZE = "/v1/embeddings", "/api/embed", "/v1/rerank", "/tokenize"

HI = [{"role": "user", "content": "Hi"}]
BODIES: Mapping[str, Fields] = {
    COMPLETION: {"prompt": "Hi"},
    NATIVE: {"prompt": "Hi"},
    INFILL: {"input_prefix": "a", "input_suffix": "b"},
    CHAT: {"messages": HI},
    RESPONSE: {"input": "Hi"},
    ANTHROPIC: {"messages": HI, "max_tokens": 9},
    OLLAMA: {"messages": HI, "stream": False},
    OLLAMA_PROMPT: {"prompt": "Hi", "stream": False},
    EMBED: {"input": "Hi"},
    OLLAMA_EMBED: {"input": "Hi"},
    NATIVE_EMBED: {"content": "Hi"},
    RERANK: {"query": "Hi", "documents": ["a"], "model": "ranks"},
    TOKENIZE: {"content": "Hi"},
}
GENERATING = (COMPLETION, NATIVE, CHAT, RESPONSE, ANTHROPIC, OLLAMA, OLLAMA_PROMPT)


WITH_TOOLS = (CHAT, RESPONSE, ANTHROPIC, OLLAMA)


def sampled(field: str, value: Any) -> list[tuple[str, Fields, str]]:
    """A field of sampling, in each dialect's place for it."""
    plain = [(path, {field: value}, field) for path in GENERATING[:5]]
    options = [(path, {"options": {field: value}}, f"options.{field}") for path in GENERATING[5:]]
    return plain + options


def stops(value: list[str], end: str = "") -> list[tuple[str, Fields, str]]:
    cases = [case for case in sampled("stop", value) if case[0] not in (RESPONSE, ANTHROPIC)]
    cases.append((ANTHROPIC, {"stop_sequences": value}, "stop_sequences"))
    return [(path, fields, name + end) for path, fields, name in cases]


def deep(levels: int) -> Any:
    return [deep(levels - 1)] if levels else []


def tools(path: str) -> list[Fields]:
    function = {"name": "f", "parameters": {"type": "object"}}
    match path:
        case "/v1/responses":
            return [{"type": "function", **function}, {"type": "custom", "name": "g"}]
        case "/v1/messages":
            return [{"name": name, "input_schema": {"type": "object"}} for name in "fg"]
        case _:
            return [{"type": "function", "function": function | {"name": name}} for name in "fg"]


LONG = "abcdef" * 200
CASES: Mapping[str, tuple[int, list[tuple[str, Fields, str]]]] = {
    "max_values": (100, [(path, {"unknown": [1] * 100}, "") for path in BODIES]),
    "max_nesting": (9, [(path, {"unknown": deep(9)}, "") for path in BODIES]),
    "max_logprobs": (9, [
        (COMPLETION, {"logprobs": 4, "max_tokens": 2}, "logprobs"),
        (CHAT, {"logprobs": True, "top_logprobs": 4, "max_tokens": 2}, "logprobs"),
        (NATIVE, {"n_probs": 4, "max_tokens": 2}, "n_probs"),
        (RESPONSE, {"top_logprobs": 4, "max_output_tokens": 2}, "top_logprobs"),
        (OLLAMA, {"logprobs": True, "top_logprobs": 4, "options": {"num_predict": 2}}, "logprobs"),
    ]),
    "max_top_logprobs": (3, [
        (COMPLETION, {"logprobs": 4}, "logprobs"),
        (CHAT, {"logprobs": True, "top_logprobs": 4}, "top_logprobs"),
        (NATIVE, {"n_probs": 4}, "n_probs"),
        (RESPONSE, {"top_logprobs": 4}, "top_logprobs"),
        (OLLAMA, {"logprobs": True, "top_logprobs": 4}, "top_logprobs"),
    ]),
    "max_choices": (3, [
        (COMPLETION, {"n": 4}, "n"),
        (COMPLETION, {"best_of": 4}, "best_of"),
        (CHAT, {"n": 4}, "n"),
        (NATIVE, {"n": 4}, "n"),
    ]),
    "max_inputs": (1, [
        (EMBED, {"input": ["a", "b"]}, "input"),
        (NATIVE_EMBED, {"content": ["a", "b"]}, "content"),
        (OLLAMA_EMBED, {"input": ["a", "b"]}, "input"),
        (RERANK, {"documents": ["a", "b"]}, "documents"),
    ]),
    "max_text": (900, [
        (COMPLETION, {"prompt": ["a", LONG]}, "prompt"),
        (COMPLETION, {"prompt": [1, LONG]}, "prompt"),
        (COMPLETION, {"prediction": {"type": "content", "content": LONG}}, "prediction.content"),
        (NATIVE, {"prompt": LONG}, "prompt"),
        (INFILL, {"input_suffix": LONG}, "input_suffix"),
        (INFILL, {"input_extra": [{"text": LONG}]}, "input_extra.0.text"),
        (RESPONSE, {"input": LONG}, "input"),
        (ANTHROPIC, {"system": LONG}, "system"),
        (OLLAMA_PROMPT, {"prompt": LONG}, "prompt"),
        (EMBED, {"input": ["a", LONG]}, "input"),
        (OLLAMA_EMBED, {"input": ["a", LONG]}, "input.1"),
        (RERANK, {"query": LONG}, "query"),
        (RERANK, {"documents": [{"text": LONG}]}, "documents.0.text"),
        (TOKENIZE, {"content": LONG}, "content"),
        (TOKENIZE, {"content": [1, LONG]}, "content.1"),
    ]),
    "max_tools": (1, [(p, {"tools": tools(p)}, "tools") for p in WITH_TOOLS]),
    "max_stops": (1, stops(["a", "b"])),
    "max_bad_words": (1, sampled("bad_words", ["a", "b"])),
    "max_breakers": (1, sampled("dry_sequence_breakers", ["a", "b"])),
    "max_phrase": (3, stops(["a", "bcde"], ".1") + [
        (path, fields, f"{name}.0")
        for of in ("bad_words", "dry_sequence_breakers")
        for path, fields, name in sampled(of, ["abcd"])
    ]),
    "max_biases": (1, sampled("logit_bias", {"1": 1, "2": 1})),
}  # fmt: skip
BY_A_MODEL = {"max_grammar"}
"""Limits that the backend knows."""


def message_of(path: str, body: Any, param: str) -> str:
    """The message of an error in the dialect of a path, which must be whole and name the field."""
    if path in (OLLAMA, OLLAMA_PROMPT, OLLAMA_EMBED):
        assert list(body) == ["error"]
        return str(body["error"])
    if path == ANTHROPIC:
        assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
        return str(body["error"]["message"])
    error = body["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param or None)
    if param:
        assert error["code"] == "limit_exceeded"
    return str(error["message"])


@contextmanager
def serving(limits: RequestLimits) -> Iterator[TestClient]:
    writer = FakeBackend(info=replace(FAKE, max_context=2000), knows_grammars=True)
    ranker = FakeBackend(info=replace(FAKE, name="ranks", pooling=Pooling.RANK, max_context=2000))
    with served(writer, ranker, door=DoorConfig(limits=limits)) as client:
        yield client


def refusal(client: TestClient, path: str, fields: Fields, param: str) -> str:
    answer = client.post(path, json=BODIES[path] | fields)
    assert answer.status_code == 400, (path, answer.text)
    return message_of(path, answer.json(), param)


def test_every_limit_is_looked_at() -> None:
    assert CASES.keys() | BY_A_MODEL == NAMES
    assert not CASES.keys() & BY_A_MODEL


@pytest.mark.parametrize("limit", CASES)
def test_what_exceeds_a_limit_is_refused_by_name_in_every_dialect(limit: str) -> None:
    most, cases = CASES[limit]
    with serving(RequestLimits(**{limit: most})) as client:
        for path, fields, param in cases:
            message = refusal(client, path, fields, param)
            assert message.startswith(f"{param}: " if param else "the JSON"), message
            assert f"at most {most}" in message
            assert f"({option_of(limit)})" in message
            if path != INFILL:  # for which the model has no tokens
                assert client.post(path, json=BODIES[path]).status_code == 200, path


@pytest.mark.parametrize("limit", CASES)
def test_the_defaults_accept_as_much(limit: str) -> None:
    with serving(RequestLimits()) as client:
        for path, fields, _ in CASES[limit][1]:
            if path != INFILL:
                answer = client.post(path, json=BODIES[path] | fields)
                assert answer.status_code == 200, (path, answer.text)


def test_what_was_sent_is_said() -> None:
    with serving(RequestLimits(max_stops=1, max_phrase=3, max_choices=2)) as client:
        for fields, message in (
            ({"stop": ["a"] * 5}, "stop: 5 are too many; at most 1 (--max-stops)"),
            ({"stop": "abcd"}, "stop.0: 4 characters are too many; at most 3 (--max-phrase)"),
            ({"n": 3000}, "n: 3,000 is too large; at most 2 (--max-choices)"),
        ):
            answer = client.post(CHAT, json=BODIES[CHAT] | fields)
            assert answer.json()["error"]["message"] == message


def test_json_in_texts_is_limited_like_bodies() -> None:
    with serving(RequestLimits(max_nesting=12)) as client:
        for fields, param in (
            ({"guided_json": json.dumps(deep(12))}, "guided_json"),
            ({"messages": [*HI, {"role": "assistant", "tool_calls": [
                {"id": "1", "function": {"name": "f", "arguments": json.dumps({"a": deep(12)})}}
            ]}, {"role": "tool", "tool_call_id": "1", "content": "a"}]},
             "messages.1.tool_calls.0.function.arguments"),
        ):  # fmt: skip
            answer = client.post(CHAT, json=BODIES[CHAT] | fields)
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == param
            assert "at most 12 levels are read (--max-nesting)" in answer.json()["error"]["message"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("limits") / "tiny.gguf"
    write_tiny_model(path, chat_template="{% for m in messages %}{{ m.content }}{% endfor %}")
    return path


def test_conversations_and_grammars_are_limited(tiny: Path) -> None:
    limits = RequestLimits(max_text=1000, max_grammar=300)
    config = EngineConfig(n_slots=2, n_ctx=2048, n_threads=1, draft_nodes=0)
    turns = [{"role": "user", "content": "a" * 600}, {"role": "user", "content": "b" * 600}]
    schema = {"type": "object", "properties": {"a" * 300: {"type": "string"}}}
    as_function = {"name": "f", "parameters": schema}
    fields: Fields
    with served(LocalBackend(open_model(tiny, config=config), None, limits)) as client:
        for path, fields, param in (
            (CHAT, {"messages": turns}, "messages"),
            ("/apply-template", {"messages": turns}, "messages"),
            ("/v1/chat/completions/input_tokens", {"messages": turns}, "messages"),
            (RESPONSE, {"input": turns}, "input"),
            ("/v1/responses/input_tokens", {"input": turns}, "input"),
            (ANTHROPIC, {"messages": turns}, "messages"),
            (OLLAMA, {"messages": turns}, "messages"),
        ):
            fields = {**BODIES.get(path, {}), **fields}
            answer = client.post(path, json=fields)
            assert answer.status_code == 400, (path, answer.text)
            message = message_of(path, answer.json(), param)
            assert message.startswith(f"{param}: 1,20")
            assert message.endswith(" characters are too many; at most 1,000 (--max-text)")
        for path, fields, param in (
            (COMPLETION, {"guided_regex": "a" * 301}, "guided_regex"),
            (NATIVE, {"json_schema": schema}, "json_schema"),
            (CHAT, {"response_format": {"type": "json_object", "schema": schema}},
             "response_format"),
            (CHAT, {"tools": [{"type": "function", "function": as_function}]}, "tools"),
            (RESPONSE, {"text": {"format": {"type": "json_schema", "schema": schema}}},
             "text.format"),
            (ANTHROPIC, {"output_config": {"format": {"type": "json_schema", "schema": schema}}},
             "output_config.format"),
            (OLLAMA, {"format": schema}, "format"),
            (OLLAMA_PROMPT, {"format": schema, "raw": True}, "format"),
        ):  # fmt: skip
            message = refusal(client, path, fields, param)
            assert message.startswith(f"{param}: ")
            assert "characters are too many; at most 300 (--max-grammar)" in message


def test_what_a_grammar_costs_is_limited(tiny: Path) -> None:
    config = EngineConfig(n_slots=2, n_ctx=2048, n_threads=1, draft_nodes=0)
    properties = {f"a{i}": {"type": "string"} for i in range(100)}
    costly = {"guided_json": {"type": "object", "properties": properties}, "max_tokens": 1}
    for work, status in ((0.001, 400), (1.0, 200)):
        loaded = open_model(tiny, config=config, grammar_work=work)
        with served(LocalBackend(loaded)) as client:
            answer = client.post(COMPLETION, json=BODIES[COMPLETION] | costly)
            assert answer.status_code == status, answer.text
            if status == 400:
                message = message_of(COMPLETION, answer.json(), "guided_json")
                assert message.endswith("(--grammar-work)")


def test_a_grammar_that_becomes_too_costly_ends_its_answer(tiny: Path) -> None:
    config = EngineConfig(n_slots=2, n_ctx=2048, n_threads=1, draft_nodes=0)
    costly = {"guided_regex": "(a|aa|aaa|aaaa){60}z", "max_tokens": 100, "temperature": 0}
    with served(LocalBackend(open_model(tiny, config=config, grammar_work=0.01))) as client:
        whole = client.post(COMPLETION, json=BODIES[COMPLETION] | costly)
        stream = client.post(COMPLETION, json=BODIES[COMPLETION] | costly | {"stream": True})
    assert (whole.status_code, stream.status_code) == (400, 200)
    error = whole.json()["error"]
    assert error["code"] == "limit_exceeded"
    assert error["message"].endswith("(--grammar-work)")
    *_, last, end, _ = stream.text.split("\n\n")
    assert json.loads(last.removeprefix("data: "))["error"] == error
    assert end == "data: [DONE]"


def test_limits_come_from_options() -> None:
    assert ServerSettings().door_config.limits == RequestLimits()
    low = dict.fromkeys(NAMES, 1000) | {"max_nesting": 8}
    assert ServerSettings.model_validate(low).limits == RequestLimits(**low)
    assert TEMPLATED == MAX_CHARACTERS
