"""Tools and reasoning in the chat API's words, on a backend whose answers the test says."""

import asyncio
import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.dialects.openai.tools import answer_constraint
from medusa.engine.events import FinishReason
from medusa.errors import InvalidRequestError
from medusa.sampling.grammars.answers import Calls
from medusa.sampling.grammars.spec import GrammarKind, GrammarSpec
from medusa.text.answers import AnswerForm
from medusa.text.tool_formats import LLAMA
from tests.app.fake_backend import THINKING, FakeBackend, Script
from tests.app.in_process import served

HI: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "Now.", "strict": True}}
TIME = {"type": "custom", "custom": {"name": "time", "format": {"type": "grammar", "grammar": {
    "syntax": "regex", "definition": r"[0-9]{2}:\n[0-9]{2}"}}}}  # fmt: skip
ULM = '<tool_call>\n{"name": "weather", "arguments": {"city": "Ulm"}}\n</tool_call>'
NOW = '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
NAMED = {"type": "function", "function": {"name": "clock"}}


def post(client: TestClient, status: int = 200, **fields: Any) -> Any:
    body = {"messages": HI, "tools": [WEATHER, CLOCK]} | fields
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def fake(*texts: str, **fields: Any) -> FakeBackend:
    return FakeBackend([Script(texts, **fields)], knows_grammars=True)


def deltas(client: TestClient, **fields: Any) -> list[dict[str, Any]]:
    """The choices of a stream's chunks."""
    body = {"messages": HI, "tools": [WEATHER, CLOCK], "stream": True} | fields
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    return [choice for line in lines for choice in json.loads(line)["choices"]]


def joined(choices: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Id, name and arguments of each call in a stream."""
    calls: list[tuple[str, str, str]] = []
    for choice in choices:
        for each in choice["delta"].get("tool_calls", ()):
            if "id" in each:
                assert each["index"] == len(calls)
                assert each["type"] == "function"
                calls.append((each["id"], each["function"]["name"], ""))
            assert each["index"] == len(calls) - 1
            id, name, arguments = calls[-1]
            calls[-1] = (id, name, arguments + each["function"]["arguments"])
    return calls


def test_calls_are_the_messages_and_the_content_is_null() -> None:
    with served(fake(f"{ULM}\n{NOW}")) as client:
        (choice,) = post(client)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    calls = choice["message"]["tool_calls"]
    assert [call["function"] for call in calls] == [
        {"name": "weather", "arguments": '{"city": "Ulm"}'},
        {"name": "clock", "arguments": "{}"},
    ]
    assert {call["type"] for call in calls} == {"function"}
    assert len({call["id"] for call in calls}) == 2


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_streamed_calls_add_up_to_the_same(size: int) -> None:
    text = f"Let me see. {ULM}\n{NOW}"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    with served(fake(*pieces)) as client:
        choices = deltas(client, n=1)
    assert "".join(each["delta"].get("content", "") for each in choices) == "Let me see."
    assert [call[1:] for call in joined(choices)] == [
        ("weather", '{"city": "Ulm"}'), ("clock", "{}"),
    ]  # fmt: skip
    assert choices[-1]["finish_reason"] == "tool_calls"
    assert choices[-1]["delta"] == {}


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_custom_tools_are_called_with_a_text(size: int) -> None:
    time = '<tool_call>\n{"name": "time", "arguments": {"input": "12:\\n30"}}\n</tool_call>'
    text = f"{time}\n{ULM}\n{time}"
    backend = fake(*(text[at : at + size] for at in range(0, len(text), size)))
    with served(backend) as client:
        (choice,) = post(client, tools=[WEATHER, TIME])["choices"]
        streamed = [
            call
            for each in deltas(client, tools=[WEATHER, TIME])
            for call in each["delta"].get("tool_calls", ())
        ]
        back = [*HI, choice["message"], {"role": "tool", "tool_call_id": "x", "content": "ok"}]
        named = {"type": "custom", "custom": {"name": "time"}}
        post(client, tools=[WEATHER, TIME], tool_choice=named, messages=back)
    assert choice["finish_reason"] == "tool_calls"
    first, function, last = choice["message"]["tool_calls"]
    assert (first["type"], function["type"], last["type"]) == ("custom", "function", "custom")
    assert first["custom"] == last["custom"] == {"name": "time", "input": "12:\n30"}
    assert [each["custom"] for each in streamed if "custom" in each] == [first["custom"]] * 2
    assert [each["index"] for each in streamed if "id" in each] == [0, 1, 2]
    tool = backend.conversations[0].tools[1]["function"]
    assert tool["parameters"]["properties"]["input"]["pattern"] == r"^(?:[0-9]{2}:\n[0-9]{2})$"
    calls = backend.conversations[-1].messages[1]["tool_calls"]
    assert calls[0]["function"] == {"name": "time", "arguments": '{"input":"12:\\n30"}'}


def test_each_of_several_answers_has_its_own_calls() -> None:
    backend = FakeBackend([Script([ULM]), Script(["No."])], knows_grammars=True)
    with served(backend) as client:
        called, said = post(client, n=2)["choices"]
        choices = deltas(client, n=2)
    assert (called["finish_reason"], said["finish_reason"]) == ("tool_calls", "stop")
    assert said["message"] == {"role": "assistant", "content": "No."}
    assert {each["index"] for each in choices} == {0, 1}


def test_a_call_cut_short_ends_for_length() -> None:
    with served(fake(ULM[: ULM.index('lm"')], reason=FinishReason.LENGTH)) as client:
        (choice,) = post(client)["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"city": "U'


def test_logprobs_tell_every_token_also_of_calls_and_marks() -> None:
    with served(fake(ULM[:20], ULM[20:])) as client:
        whole = post(client, logprobs=True)["choices"][0]["logprobs"]["content"]
        streamed = [
            entry
            for choice in deltas(client, logprobs=True)
            for entry in (choice["logprobs"] or {}).get("content", ())
        ]
    assert "".join(each["token"] for each in whole) == ULM
    assert streamed == whole


def test_messages_that_openais_client_has_read_are_taken_back() -> None:
    function = {"name": "clock", "arguments": "{}", "parsed_arguments": {}}
    call = {"id": "a", "type": "function", "function": function, "index": 0}
    read = {"role": "assistant", "content": "Well:", "tool_calls": [call], "parsed": {"a": 1},
            "refusal": None, "annotations": []}  # fmt: skip
    backend = fake("Noon.")
    with served(backend) as client:
        post(client, messages=[*HI, read])
    (conversation,) = backend.conversations
    assert conversation.messages[1] == {
        "role": "assistant", "content": "Well:", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
        ],
    }  # fmt: skip


def test_the_template_is_given_tools_and_turns_with_them() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    turns = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "content": "noon", "tool_call_id": "a"},
    ]
    backend = fake("Noon.")
    with served(backend) as client:
        post(client, messages=turns, reasoning_effort="low",
             chat_template_kwargs={"enable_thinking": False})  # fmt: skip
        post(client, tool_choice="none")
    first, second = backend.conversations
    assert first.tools == [
        WEATHER,
        {"type": "function", "function": {
            "name": "clock", "description": "Now.",
            "parameters": {"type": "object", "properties": {}},
        }},
    ]  # fmt: skip
    assert first.messages == [
        *HI,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "noon", "tool_call_id": "a"},
    ]
    assert first.variables == {"enable_thinking": False, "reasoning_effort": "low"}
    assert second.tools == []


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, ["arguments_0", "arguments_1"]),
        ({"tool_choice": "auto"}, ["arguments_0", "arguments_1"]),
        ({"tool_choice": "required"}, ["arguments_0", "arguments_1"]),
        ({"tool_choice": NAMED}, ["arguments_0"]),
        ({"guided_regex": "a+"}, ["arguments_0", "arguments_1", "content"]),
        ({"guided_regex": "a+", "tool_choice": "required"}, ["arguments_0", "arguments_1"]),
    ],
)
def test_answers_are_held_to_the_tools(fields: dict[str, Any], names: list[str]) -> None:
    backend = fake("Hi")
    with served(backend) as client:
        post(client, **fields)
    (spec,) = backend.grammars
    assert spec.kind is GrammarKind.ANSWER
    assert [name for name, _ in spec.parts] == names
    assert backend.submitted[0].constraint is not None


def test_without_tools_to_see_there_is_no_grammar() -> None:
    backend = fake("Hi")
    with served(backend) as client:
        post(client, tool_choice="none")
        post(client, tools=[])
    assert backend.grammars == []


def test_reasoning_is_told_apart() -> None:
    backend = FakeBackend([Script(["<thi", "nk>\nhm", " </think>", "\n\nYes"])], form=THINKING)
    with served(backend) as client:
        (choice,) = post(client, tools=None)["choices"]
        chunks = [each["delta"] for each in deltas(client, tools=None)]
    assert choice["message"] == {
        "role": "assistant", "content": "Yes", "reasoning_content": "hm",
    }  # fmt: skip
    assert chunks == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"content": "Yes"},
        {},
    ]


@pytest.mark.parametrize("text", ["hmm <b>", "Köln 🌍"])
def test_usage_counts_the_tokens_of_reasoning_alone(text: str) -> None:
    script = Script(["<thi", f"nk>\n{text}", " </think>", "\n\nYes"])
    backend = FakeBackend([script], form=THINKING)
    with served(backend) as client:
        whole = post(client, tools=None, n=2)["usage"]["completion_tokens_details"]
        body = {"messages": HI, "stream": True, "n": 2, "stream_options": {"include_usage": True}}
        streamed = client.post("/v1/chat/completions", json=body).text
    assert whole["reasoning_tokens"] == 2 * len(text.encode())  # each a byte
    assert f'"reasoning_tokens":{2 * len(text.encode())}' in streamed


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"tools": [WEATHER, WEATHER]}, "tools", "two tools have the name 'weather'"),
        ({"tools": [{"type": "function"}]}, "tools.0.function", "required"),
        ({"tools": [{"type": "web_search"}]}, "tools.0", "function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name",
         "pattern"),
        ({"tools": None, "tool_choice": "required"}, "tool_choice", "needs tools"),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice", "'x'"),
        ({"tool_choice": "never"}, "tool_choice", "none"),
        ({"ignore_eos": True}, "tools", "ignore_eos"),
        ({"messages": [{"role": "user", "tool_call_id": "a"}]}, "messages.0.content", "string"),
        ({"messages": [{"role": "user", "content": "a", "tool_calls": [
            {"id": "a", "function": {"name": "f"}}]}]}, "messages.0.tool_calls", "assistant"),
        ({"messages": [{"role": "assistant", "tool_calls": [
            {"id": "a", "function": {"name": "f", "arguments": "[1]"}}]}]},
         "messages.0.tool_calls.0.function.arguments", "JSON object"),
        ({"messages": [{"role": "assistant", "tool_calls": [
            {"id": "a", "function": {"name": "f", "arguments": '{"a":' * 300}}]}]},
         "messages.0.tool_calls.0.function.arguments", "nested too deeply"),
        ({"guided_json": "[" * 300}, "guided_json", "nested too deeply"),
    ],
)  # fmt: skip
def test_contradictions_and_mistakes_are_explained(
    fields: dict[str, Any], param: str | None, words: str
) -> None:
    with served(fake()) as client:
        error = post(client, 400, **fields)["error"]
    assert error["param"] == param
    assert words in error["message"]


def test_calls_that_look_like_json_are_not_mixed_with_formats() -> None:
    spec = GrammarSpec.json_object()
    calls = Calls(LLAMA, {"clock": spec}, required=False, parallel=True)
    form = AnswerForm(calls=LLAMA, names=("clock",))
    with pytest.raises(InvalidRequestError, match="look like JSON") as caught:
        asyncio.run(answer_constraint(fake(), form, calls, ("guided_json", spec)))
    assert caught.value.field == "guided_json"
