"""The Responses API's words, on a backend whose answers the test says."""

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.door.config import DoorConfig
from medusa.engine.events import FailureKind, FinishReason
from medusa.sampling.params import SamplingParams
from tests.app.fake_backend import FakeBackend, thinker
from tests.app.in_process import served

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "name": "weather", "parameters": PARAMETERS}
PATCH = {"type": "custom", "name": "patch", "description": "Change files.",
         "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}}  # fmt: skip
CLOCK = {"type": "grammar", "syntax": "regex", "definition": "[0-9]{2}:[0-9]{2}"}
TIME = {"type": "custom", "name": "time", "format": CLOCK}
CALLS = (
    '<think>hm</think>Let me see. <tool_call>\n{"name": "weather", "arguments": {"city": "Ulm"}}'
    '\n</tool_call>\n<tool_call>\n{"name": "patch", "arguments": {"input": "a\\nb"}}\n</tool_call>'
)


def post(client: TestClient, status: int = 200, **fields: Any) -> Any:
    answer = client.post("/v1/responses", json={"input": "Hi"} | fields)
    assert answer.status_code == status, answer.text
    return answer.json()


def events(client: TestClient, **fields: Any) -> list[dict[str, Any]]:
    answer = client.post("/v1/responses", json={"input": "Hi", "stream": True} | fields)
    assert answer.status_code == 200, answer.text
    found = []
    for block in answer.text.split("\n\n"):
        if block.startswith("event: "):
            name, data = block.split("\n")
            found.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {found[-1]['type']}"
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def without_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [without_ids(each) for each in value]
    if isinstance(value, dict):
        return {key: without_ids(each) for key, each in value.items() if not key.endswith("id")}
    return value


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_streamed_items_are_those_of_the_whole_answer(size: int) -> None:
    pieces = [CALLS[at : at + size] for at in range(0, len(CALLS), size)]
    tools = [WEATHER, PATCH, {"type": "web_search"}]
    with served(thinker(*pieces)) as client:
        whole = post(client, tools=tools)
        told = events(client, tools=tools)
    assert [item["type"] for item in whole["output"]] == [
        "reasoning", "message", "function_call", "custom_tool_call",
    ]  # fmt: skip
    reasoning, message, call, custom = whole["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert message["content"][0]["text"] == "Let me see."
    assert call["arguments"] == '{"city": "Ulm"}'
    assert custom["input"] == "a\nb"
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert without_ids(done) == without_ids(whole["output"])
    assert without_ids(told[-1]["response"]["output"]) == without_ids(whole["output"])
    assert {item["status"] for item in done} == {"completed"}
    for item in done:
        deltas = [
            event["delta"]
            for event in told
            if event.get("item_id") == item["id"] and event["type"].endswith(".delta")
        ]
        text = item.get("arguments") or item.get("input") or item["content"][0]["text"]
        assert "".join(deltas) == text


def test_reasoning_is_its_own_summary_where_one_is_asked_for() -> None:
    with served(thinker(CALLS)) as client:
        told = events(client, reasoning={"summary": "auto"})
    kinds = [event["type"] for event in told]
    assert "response.reasoning_summary_text.delta" in kinds
    assert "response.reasoning_text.delta" not in kinds
    item = told[-1]["response"]["output"][0]
    assert item["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert item["content"] is None


def test_usage_counts_the_tokens_of_reasoning_alone() -> None:
    with served(thinker("<think>hm", "</think>\n", "Yes")) as client:
        usage = post(client)["usage"]
    assert usage["output_tokens"] == len("<think>hm</think>\nYes")
    assert usage["output_tokens_details"]["reasoning_tokens"] == len("hm")


def test_an_answer_cut_short_is_incomplete() -> None:
    cut = CALLS[: CALLS.index('lm"')]
    with served(thinker(cut, reason=FinishReason.LENGTH)) as client:
        response = post(client, tools=[WEATHER, PATCH])
        told = events(client, tools=[WEATHER, PATCH])
    assert response["status"] == "incomplete"
    assert [item["status"] for item in response["output"]] == [
        "completed", "completed", "incomplete",
    ]  # fmt: skip
    assert response["output"][-1]["arguments"] == '{"city": "U'
    assert told[-1]["type"] == "response.incomplete"


def test_an_empty_answer_is_a_message_all_the_same() -> None:
    with served(thinker("")) as client:
        (message,) = post(client)["output"]
    assert message["content"][0]["text"] == ""


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (FailureKind.INTERNAL, "internal_error"),
        (FailureKind.COSTLY_GRAMMAR, "limit_exceeded"),
    ],
)
def test_a_stream_that_fails_says_so_in_its_own_events(failure: FailureKind, code: str) -> None:
    with served(thinker("Hel", failure=failure)) as client:
        told = events(client)
    assert [event["type"] for event in told[-2:]] == ["error", "response.failed"]
    response = told[-1]["response"]
    assert response["status"] == "failed"
    assert response["error"]["code"] == told[-2]["code"] == code
    assert response["output"][0]["content"][0]["text"] == "Hel"


def test_items_become_the_messages_of_a_template() -> None:
    backend = thinker("Yes")
    items = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "Weather"}, {"type": "input_text", "text": "in Ulm?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}],
         "encrypted_content": None},
        {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}",
         "status": "completed"},
        {"type": "custom_tool_call", "call_id": "b", "name": "patch", "input": "x"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "function_call_output", "call_id": "a", "output": "warm"},
        {"type": "custom_tool_call_output", "call_id": "b",
         "output": [{"type": "input_text", "text": "done"}]},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": [
            {"type": "output_text", "text": "Warm.", "annotations": [], "logprobs": []}]},
        {"role": "user", "content": "Thanks."},
    ]  # fmt: skip
    with served(backend) as client:
        post(client, input=items, instructions="You help.")
    (conversation,) = backend.conversations
    assert list(conversation.messages) == [
        {"role": "system", "content": [{"type": "text", "text": "You help."},
                                       {"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "Weather"},
                                     {"type": "text", "text": "in Ulm?"}]},
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
            {"id": "b", "type": "function",
             "function": {"name": "patch", "arguments": '{"input":"x"}'}}]},
        {"role": "tool", "tool_call_id": "a", "content": "warm"},
        {"role": "tool", "tool_call_id": "b", "content": "done"},
        {"role": "assistant", "content": "Warm."},
        {"role": "user", "content": "Thanks."},
    ]  # fmt: skip


def test_a_model_sees_functions_of_one_text_for_custom_tools_and_no_others() -> None:
    backend = thinker("Yes")
    hosted = [{"type": "web_search"}, {"type": "local_shell"}, {"type": "mcp", "server_label": "x"}]
    with served(backend) as client:
        echoed = post(client, tools=[WEATHER, PATCH, TIME, *hosted])["tools"]
        post(client, tools=hosted)
        post(client, tools=[WEATHER, PATCH], tool_choice={
            "type": "allowed_tools", "mode": "required",
            "tools": [{"type": "function", "name": "weather"}]})  # fmt: skip
    both, none, allowed = backend.conversations
    assert [tool["function"]["name"] for tool in both.tools] == ["weather", "patch", "time"]
    assert [tool.get("format") for tool in echoed[1:3]] == [PATCH["format"], CLOCK]
    patch = both.tools[1]["function"]
    assert patch["description"].startswith("Change files.")
    assert "start: /.+/" in patch["description"]
    assert patch["parameters"]["properties"] == {"input": {"type": "string"}}
    time = both.tools[2]["function"]["parameters"]["properties"]["input"]
    assert time == {"type": "string", "pattern": "^(?:[0-9]{2}:[0-9]{2})$"}
    assert [tool["type"] for tool in echoed] == [
        "function", "custom", "custom", "web_search", "local_shell", "mcp",
    ]  # fmt: skip
    assert none.tools == []
    assert [tool["function"]["name"] for tool in allowed.tools] == ["weather"]


def test_tools_of_a_namespace_are_called_by_both_names() -> None:
    tools = [{"type": "namespace", "name": "mcp__sky", "description": "Up.", "tools": [WEATHER]}]
    text = '<tool_call>\n{"name": "mcp__sky__weather", "arguments": {"city": "Ulm"}}\n</tool_call>'
    backend = thinker(text)
    with served(backend) as client:
        (call,) = post(client, tools=tools)["output"]
        post(client, tools=tools, input=[{"role": "user", "content": "Hi"}, call])
    assert (call["namespace"], call["name"]) == ("mcp__sky", "weather")
    replayed = backend.conversations[-1].messages[1]["tool_calls"][0]["function"]
    assert replayed == {"name": "mcp__sky__weather", "arguments": '{"city": "Ulm"}'}


def test_a_picture_that_a_tool_found_does_not_end_the_session() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,xx"}
    result = {"type": "function_call_output", "call_id": "a", "output": [picture]}
    call = {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"}
    backend = thinker("Yes")
    with served(backend) as client:
        post(client, input=[{"role": "user", "content": "Look."}, call, result])
        error = post(client, 400, input=[{"role": "user", "content": [picture]}])["error"]
    assert "cannot be shown" in backend.conversations[0].messages[-1]["content"]
    assert error["param"] == "input.0.content.0"


def test_the_oldest_turns_give_way_where_that_is_wanted() -> None:
    backend = thinker("Yes")  # a token a character, 1000 in all
    turns = [{"role": "user", "content": f"{number} " + "x" * 200} for number in range(20)]
    items = [{"role": "system", "content": "Be brief."}, *turns]
    with served(backend) as client:
        error = post(client, 400, input=items)["error"]
        assert error["code"] == "context_length_exceeded"
        response = post(client, input=items, truncation="auto", max_output_tokens=100)
    read = [message["content"][:3].strip() for message in backend.conversations[-1].messages]
    assert read == ["Be", "17", "18", "19"] or read == ["Be", "16", "17", "18", "19"]
    assert response["usage"]["input_tokens"] + 100 <= 1000
    kept = len(backend.submitted[-1].prompt)
    assert kept + 210 + 100 > 1000, "another turn would have fitted"


def test_tokens_are_chosen_as_the_server_says_unless_the_body_does() -> None:
    backend = FakeBackend(sampling=SamplingParams(temperature=0.3, min_p=0.1))
    with served(backend) as client:
        assert post(client)["temperature"] == 0.3
        assert post(client, temperature=0, top_p=0.5, seed=7)["top_p"] == 0.5
    chosen = [request.sampling for request in backend.submitted]
    assert chosen == [
        SamplingParams(temperature=0.3, min_p=0.1),
        SamplingParams(temperature=0, min_p=0.1, top_p=0.5, seed=7),
    ]


def test_what_is_kept_is_bounded() -> None:
    door = DoorConfig(max_responses=2)
    with served(thinker("Yes"), door=door) as client:
        ids = [post(client)["id"] for _ in range(3)]
        found = [client.get(f"/v1/responses/{each}").status_code for each in ids]
    assert found == [404, 200, 200]
    with served(thinker("Yes"), door=DoorConfig(response_memory=3000)) as client:
        ids = [post(client, input="x" * 500)["id"] for _ in range(4)]
        large = post(client, metadata={"a": "x" * 5000})["id"]
        found = [client.get(f"/v1/responses/{each}").status_code for each in [*ids, large]]
    assert found == [404, 404, 404, 200, 404] or found == [404, 404, 200, 200, 404]
    with served(thinker("Yes"), door=DoorConfig(max_responses=0)) as client:
        response = post(client)
        assert response["store"] is False
        assert client.get(f"/v1/responses/{response['id']}").status_code == 404


def test_a_conversation_is_kept_whatever_ids_a_client_gives() -> None:
    backend = thinker("Yes")
    said = [{"role": "user", "content": text, "id": "same"} for text in ("One", "Two")]
    with served(backend) as client:
        first = post(client, input=said)
        post(client, input=said, previous_response_id=first["id"])
    texts = [message["content"] for message in backend.conversations[-1].messages]
    assert texts == ["One", "Two", "Yes", "One", "Two"]


def test_input_items_come_in_pages() -> None:
    with served(thinker("Yes")) as client:
        said = [{"role": "user", "content": str(number)} for number in range(5)]
        path = f"/v1/responses/{post(client, input=said)['id']}/input_items"
        first = client.get(path, params={"limit": 2, "order": "asc"}).json()
        rest = client.get(path, params={"order": "asc", "after": first["last_id"]}).json()
        newest = client.get(path).json()
    texts = [
        [item["content"][0]["text"] for item in page["data"]] for page in (first, rest, newest)
    ]
    assert texts == [["0", "1"], ["2", "3", "4"], ["4", "3", "2", "1", "0"]]
    assert (first["has_more"], rest["has_more"]) == (True, False)


@pytest.mark.parametrize("path", ["/responses", "/v1/responses"])
def test_the_door_speaks_as_for_other_endpoints(path: str) -> None:
    with served(thinker("Yes"), api_key="k", door=DoorConfig(max_body=1000)) as client:
        assert client.post(path, json={"input": "Hi"}).status_code == 401
        key = {"Authorization": "Bearer k"}
        assert client.post(path, json={"input": "x" * 2000}, headers=key).status_code == 413
        assert client.post(path, json={"input": "Hi"}, headers=key).status_code == 200
    with served(thinker("Yes")) as client:
        error = post(client, 400, input=[{"type": "function_call", "call_id": "a", "name": "f",
                                          "arguments": "[1]"}])["error"]  # fmt: skip
    assert error["param"] == "input.0.arguments"
    busy = FakeBackend(room=0)
    with served(busy) as client:
        answer = client.post(path, json={"input": "Hi"})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
