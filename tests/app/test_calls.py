"""Calls and reasoning over HTTP on a tiny model of random weights, in the test's own process."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from starlette.testclient import TestClient

from app.backend import LocalBackend
from medusa.engine.config import EngineConfig
from medusa.loading import open_model
from tests.app.in_process import served
from tests.app.tiny_model import write_tiny_model

CONFIG = EngineConfig(n_slots=4, n_ctx=2048, n_threads=1)
CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Ulm", "Bonn"]}, "days": {"type": "array", "maxItems": 2,
                                                             "items": {"type": "boolean"}}},
    "required": ["city", "days"],
}  # fmt: skip
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": CITY}},
    {"type": "function", "function": {"name": "clock"}},
]
SCHEMAS: dict[str, dict[str, Any]] = {
    "weather": CITY | {"additionalProperties": False},
    "clock": {"maxProperties": 0},
}
TEMPLATE = (
    "{% for t in tools or [] %}{{ t.function.name }}:{{ t.function.description }};{% endfor %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}BEFORE{{ c.function.name }}BETWEEN"
    "{{ c.function.arguments }}AFTER{% endfor %}{% endfor %}<assistant>"
)
MISTRAL = TEMPLATE.replace("BEFORE", "[TOOL_CALLS]").replace("BETWEEN", "[ARGS]")
HERMES = TEMPLATE.replace("BEFORE", '<tool_call>\n{"name": "').replace(
    "BETWEEN", '", "arguments": '
)
THINKING = "{% if think %}<think>\n{% endif %}{# </think> #}"


@pytest.fixture(scope="module", params=["mistral", "hermes"])
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    path = tmp_path_factory.mktemp("calls") / "tiny.gguf"
    if request.param == "mistral":  # its marks are control tokens, which are no text otherwise
        source = MISTRAL.replace("AFTER", "") + THINKING
        control = ["[TOOL_CALLS]", "[ARGS]", "<think>", "</think>"]
        write_tiny_model(path, control=control, chat_template=source)
    else:
        source = HERMES.replace("AFTER", "}\n</tool_call>") + THINKING
        marks = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
        write_tiny_model(path, user_defined=marks, chat_template=source)
    with served(LocalBackend(open_model(path, config=CONFIG))) as client:
        yield client


def post(client: TestClient, status: int = 200, **fields: Any) -> Any:
    body = {"messages": [{"role": "user", "content": "Hi"}], "tools": TOOLS, "seed": 5, "n": 4,
            "max_tokens": 120} | fields  # fmt: skip
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == status, answer.text
    return answer.json() if not fields.get("stream") else answer.text


def validated(choice: dict[str, Any]) -> list[str]:
    """The names of a choice's calls, whose arguments validate unless it was cut short."""
    calls = [call["function"] for call in choice["message"]["tool_calls"]]
    whole = calls if choice["finish_reason"] == "tool_calls" else calls[:-1]
    for call in whole:
        jsonschema.validate(json.loads(call["arguments"]), SCHEMAS[call["name"]])
    return [call["name"] for call in calls]


def test_required_calls_validate(client: TestClient) -> None:
    for choice in post(client, tool_choice="required")["choices"]:
        assert validated(choice)
        assert choice["message"]["content"] is None
    for choice in post(client, tool_choice="required", parallel_tool_calls=False)["choices"]:
        assert len(validated(choice)) == 1
        assert choice["finish_reason"] == "tool_calls"
    named = {"type": "function", "function": {"name": "clock"}}
    for choice in post(client, tool_choice=named)["choices"]:
        assert validated(choice) == ["clock"]


def test_a_stream_is_the_same_in_pieces(client: TestClient) -> None:
    fields: dict[str, Any] = {"tool_choice": "required", "n": 2}
    whole = post(client, **fields)["choices"]
    calls: dict[tuple[int, int], list[str]] = {}
    for line in post(client, stream=True, **fields).splitlines():
        for choice in json.loads(line[6:])["choices"] if line.startswith("data: {") else ():
            assert not choice["delta"].get("content")
            for each in choice["delta"].get("tool_calls", ()):
                call = calls.setdefault((choice["index"], each["index"]), ["", ""])
                call[0] += each["function"].get("name", "")
                call[1] += each["function"]["arguments"]
    assert list(calls.values()) == [
        [call["function"]["name"], call["function"]["arguments"]]
        for choice in sorted(whole, key=lambda choice: choice["index"])
        for call in choice["message"]["tool_calls"]
    ]


def test_auto_leaves_the_text_free(client: TestClient) -> None:
    for choice in post(client, max_tokens=40)["choices"]:
        assert choice["finish_reason"] in ("length", "stop", "tool_calls")


def test_a_format_begins_behind_the_reasoning(client: TestClient) -> None:
    think = {"think": True}
    answer = post(client, json_schema=CITY, tools=None, chat_template_kwargs=think, max_tokens=60)
    for choice in answer["choices"]:
        assert choice["message"]["reasoning_content"]
        if choice["message"]["content"]:
            assert choice["message"]["content"].startswith("{")
    for choice in post(client, json_schema=CITY, tools=None)["choices"]:
        if "reasoning_content" not in choice["message"] and choice["finish_reason"] == "stop":
            jsonschema.validate(json.loads(choice["message"]["content"]), CITY)


def test_parameters_that_cannot_be_kept_to_are_refused_by_name(client: TestClient) -> None:
    wrong = {"name": "odd", "parameters": {"properties": {"a": {"not": {}}}}}
    error = post(client, 400, tools=[*TOOLS, {"type": "function", "function": wrong}])["error"]
    assert error["param"] == "tools"
    assert "'odd'" in error["message"]
    assert "not" in error["message"]
    error = post(client, 400, guided_regex="(")["error"]
    assert error["param"] == "guided_regex"
