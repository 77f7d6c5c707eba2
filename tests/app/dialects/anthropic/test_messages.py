"""The Messages API's words, on a backend whose answers the test says."""

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.door.config import DoorConfig
from medusa.engine.events import FailureKind, FinishReason
from medusa.sampling.params import SamplingParams
from tests.app.fake_backend import FakeBackend, Script, thinker
from tests.app.in_process import served
from tests.app.over_http import get, listening, post, read_all

HI: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
WEATHER = {"name": "weather", "input_schema": {"properties": {"city": {"type": "string"}}}}
CLOCK = {"name": "clock", "description": "Now.", "input_schema": {"type": "object"}}
CALLS = (
    '<think>hm</think>Let me see. <tool_call>\n{"name": "weather", "arguments": {"city": "Ulm"}}'
    '\n</tool_call>\n<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
)


def ask(client: TestClient, status: int = 200, **fields: Any) -> Any:
    body = {"model": "fake", "max_tokens": 50, "messages": HI} | fields
    answer = client.post("/v1/messages", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def events(client: TestClient, **fields: Any) -> list[dict[str, Any]]:
    body = {"model": "fake", "max_tokens": 50, "messages": HI, "stream": True} | fields
    answer = client.post("/v1/messages", json=body)
    assert answer.status_code == 200, answer.text
    found = []
    for block in answer.text.split("\n\n"):
        if block.startswith("event: "):
            name, data = block.split("\n")
            found.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {found[-1]['type']}"
    return found


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_streamed_blocks_add_up_to_those_of_the_whole_answer(size: int) -> None:
    pieces = [CALLS[at : at + size] for at in range(0, len(CALLS), size)]
    with served(thinker(*pieces)) as client:
        whole = ask(client, tools=[WEATHER, CLOCK])
        told = events(client, tools=[WEATHER, CLOCK])
    assert whole["stop_reason"] == told[-2]["delta"]["stop_reason"] == "tool_use"
    thinking, text, weather, clock = whole["content"]
    assert thinking == {"type": "thinking", "thinking": "hm", "signature": ""}
    assert text == {"type": "text", "text": "Let me see."}
    assert (weather["name"], weather["input"]) == ("weather", {"city": "Ulm"})
    assert (clock["name"], clock["input"]) == ("clock", {})
    starts = [event["content_block"]["type"] for event in told
              if event["type"] == "content_block_start"]  # fmt: skip
    assert starts == ["thinking", "text", "tool_use", "tool_use"]
    for index, field, text_of in (
        (0, "thinking", "hm"), (1, "text", "Let me see."), (2, "partial_json", '{"city": "Ulm"}'),
        (3, "partial_json", "{}"),
    ):  # fmt: skip
        deltas = [
            event["delta"]
            for event in told
            if event["type"] == "content_block_delta" and event["index"] == index
        ]
        assert "".join(delta.get(field, "") for delta in deltas) == text_of
    assert [event["type"] for event in told[:2]] == ["message_start", "ping"]
    assert told[-1] == {"type": "message_stop"}


@pytest.mark.parametrize(
    ("script", "reason", "sequence"),
    [
        (Script(["Hi"]), "end_turn", None),
        (Script(["Hi"], reason=FinishReason.LENGTH), "max_tokens", None),
        (Script(["Hi"], stop="END"), "stop_sequence", "END"),
    ],
)
def test_why_an_answer_ended_is_told(script: Script, reason: str, sequence: str | None) -> None:
    with served(FakeBackend([script])) as client:
        message = ask(client, stop_sequences=["END"])
        last = events(client, stop_sequences=["END"])[-2]
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)
    assert last["delta"] == {"stop_reason": reason, "stop_sequence": sequence}
    assert message["usage"] == last["usage"] == {
        "input_tokens": len("<user>Hi") - 1, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 1, "output_tokens": 2,
    }  # fmt: skip


def test_blocks_become_the_messages_of_a_template() -> None:
    backend = thinker("Yes")
    with served(backend) as client:
        ask(
            client,
            system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            messages=[
                {"role": "user", "content": "Weather"},
                {"role": "user", "content": [{"type": "text", "text": "in Ulm?"}]},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "x"},
                    {"type": "text", "text": "I look.", "citations": None},
                    {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Ulm"},
                     "caller": {"type": "direct"}},
                    {"type": "tool_use", "id": "b", "name": "clock", "input": {}},
                    {"type": "server_tool_use", "id": "c", "name": "web_search", "input": {}},
                    {"type": "web_search_tool_result", "tool_use_id": "c", "content": []}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "a", "content": "warm"},
                    {"type": "tool_result", "tool_use_id": "b", "is_error": True,
                     "content": [{"type": "text", "text": "none"},
                                 {"type": "image", "source": {"type": "url", "url": "x"}}]},
                    {"type": "text", "text": "Go on."}]},
            ],
            thinking={"type": "enabled", "budget_tokens": 1024},
            output_config={"effort": "low"},
            metadata={"user_id": "u"}, context_management={"edits": []},
        )  # fmt: skip
    (conversation,) = backend.conversations
    assert list(conversation.messages) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather"},
                                     {"type": "text", "text": "in Ulm?"}]},
        {"role": "assistant", "content": "I look.", "reasoning_content": "hm", "tool_calls": [
            {"id": "a", "type": "function",
             "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}},
            {"id": "b", "type": "function", "function": {"name": "clock", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "warm"},
        {"role": "tool", "tool_call_id": "b", "content": [
            {"type": "text", "text": "none"},
            {"type": "text", "text": "[image, which cannot be shown here]"}]},
        {"role": "user", "content": "Go on."},
    ]  # fmt: skip
    assert conversation.variables == {"enable_thinking": True, "reasoning_effort": "low"}


@pytest.mark.parametrize(
    ("choice", "names", "constrained"),
    [
        (None, ["weather", "clock"], ["arguments_0", "arguments_1"]),
        ({"type": "auto"}, ["weather", "clock"], ["arguments_0", "arguments_1"]),
        ({"type": "any"}, ["weather", "clock"], ["arguments_0", "arguments_1"]),
        ({"type": "tool", "name": "clock"}, ["weather", "clock"], ["arguments_0"]),
        ({"type": "none"}, [], None),
    ],
)
def test_answers_are_held_to_the_tools(
    choice: Any, names: list[str], constrained: list[str] | None
) -> None:
    backend = FakeBackend(knows_grammars=True)
    with served(backend) as client:
        ask(client, tools=[WEATHER, CLOCK, {"type": "web_search_20250305", "name": "web_search"}],
            tool_choice=choice)  # fmt: skip
    (conversation,) = backend.conversations
    assert [tool["function"]["name"] for tool in conversation.tools] == names
    parts = [[name for name, _ in spec.parts] for spec in backend.grammars]
    assert parts == ([] if constrained is None else [constrained])


@pytest.mark.parametrize(
    ("backend", "fields", "status", "kind"),
    [
        (FakeBackend(), {"max_tokens": 0}, 400, "invalid_request_error"),
        (FakeBackend(), {"messages": [{"role": "user", "content": "x" * 2000}]}, 400,
         "invalid_request_error"),
        (FakeBackend(room=0), {}, 529, "overloaded_error"),
        (FakeBackend([Script(failure=FailureKind.INTERNAL)]), {}, 500, "api_error"),
        (FakeBackend([Script(failure=FailureKind.STOPPED)]), {}, 503, "overloaded_error"),
        (FakeBackend([Script(failure=FailureKind.COSTLY_GRAMMAR)]), {}, 400,
         "invalid_request_error"),
    ],
)  # fmt: skip
def test_errors_have_anthropics_shape(
    backend: FakeBackend, fields: dict[str, Any], status: int, kind: str
) -> None:
    with served(backend) as client:
        error = ask(client, status, **fields)
    assert error["type"] == "error"
    assert error["error"]["type"] == kind


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (FailureKind.INTERNAL, "api_error"),
        (FailureKind.COSTLY_GRAMMAR, "invalid_request_error"),
    ],
)
def test_a_stream_that_fails_ends_with_an_error_event(failure: FailureKind, kind: str) -> None:
    with served(thinker("Hel", failure=failure)) as client:
        told = events(client)
    assert told[-1]["type"] == "error"
    assert told[-1]["error"]["type"] == kind


def test_who_is_busy_says_when_to_come_back() -> None:
    with served(FakeBackend(room=0)) as client:
        answer = client.post("/v1/messages", json={"max_tokens": 5, "messages": HI})
    assert answer.headers["Retry-After"]


def test_the_key_may_be_in_either_header() -> None:
    with served(FakeBackend(), api_key="k", door=DoorConfig(max_body=1000)) as client:
        body = {"max_tokens": 5, "messages": HI}
        for headers, status in (
            ({"x-api-key": "k", "anthropic-version": "2023-06-01"}, 200),
            ({"Authorization": "Bearer k"}, 200),
            ({"x-api-key": "wrong"}, 401),
            ({}, 401),
        ):
            answer = client.post("/v1/messages?beta=true", json=body, headers=headers)
            assert answer.status_code == status
        assert answer.json()["error"]["type"] == "authentication_error"
        answer = client.post("/v1/messages", content="x" * 2000, headers={"x-api-key": "k"})
        assert answer.json()["error"]["type"] == "request_too_large"


def test_a_strict_server_has_one_model() -> None:
    with served(FakeBackend(), door=DoorConfig(strict=True)) as client:
        assert ask(client, 404, model="x")["error"]["type"] == "not_found_error"


def test_the_door_speaks_anthropics_words_where_the_path_is_anthropics() -> None:
    with served(FakeBackend()) as client:
        wrong_method = client.get("/v1/messages")
        nowhere = client.post("/v1/messages/batches", json={})
        elsewhere = client.get("/v1/nothing")
    assert (wrong_method.status_code, wrong_method.json()["type"]) == (405, "error")
    assert nowhere.json()["error"]["type"] == "not_found_error"
    assert "type" not in elsewhere.json()
    with listening(FakeBackend(), DoorConfig(hosts=())) as server:
        caller = server.connect()
        caller.sendall(get("/v1/messages").replace(b"localhost", b"evil.example"))
        caller.sendall(post("/v1/messages", {}, "Connection: close"))
        answers = read_all(caller)
    assert b'"permission_error"' in answers
    assert b'"invalid_request_error"' in answers
    with listening(FakeBackend(), DoorConfig(max_connections=1)) as server:
        server.connect().sendall(get("/health"))
        late = server.connect()
        late.sendall(post("/v1/messages", {}))
        assert b'"overloaded_error"' in read_all(late)


def test_tokens_are_chosen_as_the_server_says_unless_the_body_does() -> None:
    backend = FakeBackend(sampling=SamplingParams(temperature=0.3, min_p=0.1))
    with served(backend) as client:
        ask(client)
        ask(client, temperature=0, top_k=5)
    chosen = [request.sampling for request in backend.submitted]
    assert chosen == [
        SamplingParams(temperature=0.3, min_p=0.1),
        SamplingParams(temperature=0, min_p=0.1, top_k=5),
    ]


def test_tokens_are_counted_without_max_tokens() -> None:
    with served(FakeBackend()) as client:
        answer = client.post("/v1/messages/count_tokens", json={"messages": HI, "system": "a"})
    assert answer.json() == {"input_tokens": len("<system>a<user>Hi")}
