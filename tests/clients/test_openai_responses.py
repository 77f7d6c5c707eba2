"""The Responses API as OpenAI's client uses it, on the default model."""

import json
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from pydantic import BaseModel, Field

QUESTION = "Explain how a bicycle stays upright."
RULES = "You are a patient teacher."
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 12},
            "days": {"type": "integer", "minimum": 1, "maximum": 7},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}


class Weather(BaseModel):
    city: str = Field(max_length=12)
    days: int = Field(ge=1, le=7)


def respond(client: OpenAI, **fields: Any) -> Any:
    defaults: dict[str, Any] = {"model": "default", "input": QUESTION, "temperature": 0}
    return client.responses.create(**({"max_output_tokens": 30} | defaults | fields))


def chat(client: OpenAI, messages: Any) -> str:
    answer = client.chat.completions.create(
        model="default", messages=messages, temperature=0, max_tokens=30
    )
    return answer.choices[0].message.content or ""


def test_the_text_is_that_of_chat(client: OpenAI) -> None:
    asked = {"role": "user", "content": QUESTION}
    first = chat(client, [{"role": "system", "content": RULES}, asked])
    response = respond(client, instructions=RULES)
    assert response.output_text == first
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    turns = [asked, {"role": "assistant", "content": first}, {"role": "user", "content": "Why?"}]
    again = respond(client, input=[{"role": "developer", "content": RULES}, *turns])
    assert again.output_text == chat(client, [{"role": "system", "content": RULES}, *turns])


def test_a_response_goes_on_with_another(client: OpenAI) -> None:
    first = respond(client, instructions=RULES)
    second = respond(
        client, input="Why?", instructions=RULES, previous_response_id=first.id, max_output_tokens=9
    )
    replayed = respond(
        client,
        instructions=RULES,
        input=[
            {"role": "user", "content": QUESTION},
            *first.output,
            {"role": "user", "content": "Why?"},
        ],
        max_output_tokens=9,
    )
    by_reference = respond(
        client,
        instructions=RULES,
        input=[
            {"role": "user", "content": QUESTION},
            {"type": "item_reference", "id": first.output[0].id},
            {"role": "user", "content": "Why?"},
        ],
        max_output_tokens=9,
    )
    assert second.output_text == replayed.output_text == by_reference.output_text
    assert second.usage.input_tokens == replayed.usage.input_tokens
    assert second.previous_response_id == first.id
    items: Any = client.responses.input_items.list(second.id, order="asc", limit=1)
    texts = [item.content[0].text for item in items]
    assert texts == [QUESTION, first.output_text, "Why?"]


def test_events_add_up_to_the_whole_response(client: OpenAI) -> None:
    whole = respond(client, include=["message.output_text.logprobs"], top_logprobs=2)
    events = list(
        respond(client, include=["message.output_text.logprobs"], top_logprobs=2, stream=True)
    )
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress",
        "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.incomplete",
    ]  # fmt: skip
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert "".join(event.delta for event in deltas) == whole.output_text
    logprobs = [entry.logprob for event in deltas for entry in event.logprobs]
    assert logprobs == [entry.logprob for entry in whole.output[0].content[0].logprobs]
    assert len(logprobs) == 30
    last = events[-1].response
    assert (last.output_text, last.usage) == (whole.output_text, last.usage)
    assert client.responses.retrieve(last.id) == last


def test_the_clients_own_stream_helper_is_content(client: OpenAI) -> None:
    fields: dict[str, Any] = {"model": "default", "input": QUESTION, "temperature": 0}
    with client.responses.stream(**fields, max_output_tokens=400) as stream:
        text = "".join(
            event.delta for event in stream if event.type == "response.output_text.delta"
        )
        final = stream.get_final_response()
    assert final.status == "completed"
    assert final.output_text == text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_forced_call_validates_and_its_result_is_taken(client: OpenAI, stream: bool) -> None:
    fields: dict[str, Any] = {
        "input": "How warm is it in Ulm?",
        "tools": [WEATHER],
        "tool_choice": {"type": "function", "name": "weather"},
        "max_output_tokens": 100,
        "stream": stream,
    }
    response = respond(client, **fields)
    if stream:
        events = list(response)
        response = events[-1].response
        parts = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
        assert "".join(parts) == response.output[0].arguments
    (call,) = response.output
    assert (call.type, call.name, call.status) == ("function_call", "weather", "completed")
    Weather.model_validate(json.loads(call.arguments))
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "7 degrees"}
    told = respond(client, input=[result], previous_response_id=response.id, tools=[WEATHER],
                   tool_choice="none")  # fmt: skip
    assert told.output_text
    everything = [{"role": "user", "content": "How warm is it in Ulm?"}, call, result]
    again = respond(client, input=everything, tools=[WEATHER], tool_choice="none")
    assert again.output_text == told.output_text


def test_custom_tools_are_called_with_a_text(client: OpenAI) -> None:
    tools = [{"type": "custom", "name": "note", "description": "Writes a short text down."},
             {"type": "web_search"}, {"type": "local_shell"}]  # fmt: skip
    response = respond(
        client, input="Note that it rains.", tools=tools, max_output_tokens=60,
        tool_choice={"type": "custom", "name": "note"},
    )  # fmt: skip
    (call,) = response.output
    assert (call.type, call.name) == ("custom_tool_call", "note")
    assert isinstance(call.input, str)
    result = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "done"}
    told = respond(client, input=[result], previous_response_id=response.id, tools=tools)
    assert told.output


def test_structured_output_is_parsed(client: OpenAI) -> None:
    response = client.responses.parse(
        model="default", input="The weather in Ulm for 3 days.", text_format=Weather
    )
    assert isinstance(response.output_parsed, Weather)
    plain = respond(client, text={"format": {"type": "json_object"}}, max_output_tokens=200)
    assert plain.status == "incomplete" or isinstance(json.loads(plain.output_text), dict)


def test_tokens_are_counted(client: OpenAI) -> None:
    counted = client.responses.input_tokens.count(
        model="default", input="Count these words, please.", instructions=RULES
    )
    fields = {"input": "Count these words, please.", "instructions": RULES}
    respond(client, **fields)
    usage = respond(client, **fields).usage
    assert usage.input_tokens == counted.input_tokens
    assert usage.input_tokens_details.cached_tokens == usage.input_tokens - 1
    assert usage.output_tokens_details.reasoning_tokens == 0
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_responses_are_kept_as_long_as_they_are_wanted(client: OpenAI) -> None:
    kept, not_kept = respond(client), respond(client, store=False)
    assert client.responses.retrieve(kept.id) == kept
    client.responses.delete(kept.id)
    for each in (kept, not_kept):
        with pytest.raises(NotFoundError, match="is kept"):
            client.responses.retrieve(each.id)
        with pytest.raises(BadRequestError) as caught:
            respond(client, previous_response_id=each.id)
        assert caught.value.code == "previous_response_not_found"
        assert caught.value.param == "previous_response_id"


def test_mistakes_are_explained(client: OpenAI) -> None:
    for fields, param in (
        ({"input": "word " * 30_000}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
         "input.0.content.0"),
        ({"tools": [{**WEATHER, "parameters": {"properties": {"a": {"not": {}}}}}]}, "tools"),
        ({"background": True}, "background"),
        ({"tool_choice": {"type": "function", "name": "nobody"}, "tools": [WEATHER]},
         "tool_choice"),
    ):  # fmt: skip
        with pytest.raises(BadRequestError) as caught:
            respond(client, **fields)
        assert caught.value.param == param
