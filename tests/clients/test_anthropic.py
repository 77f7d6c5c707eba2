"""The Messages API as Anthropic's client uses it, on the default model."""

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from anthropic import Anthropic, APIStatusError, BadRequestError
from openai import OpenAI
from pydantic import BaseModel, Field

QUESTION = "Explain how a bicycle stays upright."
RULES = "You are a patient teacher."
GREEDY = {"temperature": 0}  # which the client's newest version does not name
ASKED: Any = {"role": "user", "content": QUESTION}
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 12},
            "days": {"type": "integer", "minimum": 1, "maximum": 7},
        },
        "required": ["city", "days"],
    },
    "cache_control": {"type": "ephemeral"},
}


class Weather(BaseModel):
    city: str = Field(max_length=12)
    days: int = Field(ge=1, le=7)


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Anthropic]:
    with Anthropic(
        base_url=url.removesuffix("/v1"), api_key="none", max_retries=0, timeout=600
    ) as client:
        yield client


def ask(client: Anthropic, **fields: Any) -> Any:
    defaults: dict[str, Any] = {"model": "default", "messages": [ASKED], "max_tokens": 30}
    return client.messages.create(**({"extra_body": GREEDY} | defaults | fields))


def chat(openai: OpenAI, messages: Any) -> str:
    answer = openai.chat.completions.create(
        model="default", messages=messages, temperature=0, max_tokens=30
    )
    return answer.choices[0].message.content or ""


def test_the_text_is_that_of_chat(url: str, client: Anthropic) -> None:
    system = {"role": "system", "content": RULES}
    openai = OpenAI(base_url=url, api_key="none", timeout=600)
    first = ask(client, system=RULES)
    assert first.content[0].text == chat(openai, [system, ASKED])
    assert (first.stop_reason, first.stop_sequence) == ("max_tokens", None)
    again = ask(
        client,
        system=[{"type": "text", "text": RULES, "cache_control": {"type": "ephemeral"}}],
        messages=[
            ASKED,
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
        ],
    )
    turns = [{"role": "assistant", "content": first.content[0].text},
             {"role": "user", "content": "Why?"}]  # fmt: skip
    assert again.content[0].text == chat(openai, [system, ASKED, *turns])


def test_events_add_up_to_the_whole_message(client: Anthropic) -> None:
    whole = ask(client)
    events = list(ask(client, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]  # the client hides the ping
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert events[0].message.content == []
    text = "".join(event.delta.text for event in events if event.type == "content_block_delta")
    assert text == whole.content[0].text
    assert events[-2].delta.stop_reason == "max_tokens"
    assert events[-2].usage.output_tokens == 30


def test_the_clients_own_stream_helper_is_content(client: Anthropic) -> None:
    fields: dict[str, Any] = {"model": "default", "messages": [ASKED], "extra_body": GREEDY}
    with client.messages.stream(**fields, max_tokens=400) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn"
    assert final.content[0].text == text  # type: ignore[union-attr]
    assert final.usage.output_tokens > 30


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_forced_call_validates_and_its_result_is_taken(client: Anthropic, choice: Any) -> None:
    asked = {"role": "user", "content": "How warm is it in Ulm?"}
    called = ask(
        client, messages=[asked], tools=[WEATHER, {"type": "bash_20250124", "name": "bash"}],
        tool_choice=choice | {"disable_parallel_tool_use": True}, max_tokens=100,
    )  # fmt: skip
    (call,) = called.content
    assert (called.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "weather")
    Weather.model_validate(call.input)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "7 degrees"}
    told = ask(
        client,
        messages=[
            asked,
            {"role": "assistant", "content": called.content},
            {"role": "user", "content": [result, {"type": "text", "text": "In one sentence."}]},
        ],
        tools=[WEATHER],
        tool_choice={"type": "none"},
    )
    assert told.content[0].text


def test_streamed_input_adds_up(client: Anthropic) -> None:
    fields: dict[str, Any] = {
        "model": "default",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "The weather in Ulm?"}],
        "tools": [WEATHER],
        "tool_choice": {"type": "tool", "name": "weather"},
        "extra_body": GREEDY,
    }
    with client.messages.stream(**fields) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        (call,) = stream.get_final_message().content
    assert call.type == "tool_use"
    assert Weather.model_validate(call.input) == Weather.model_validate_json("".join(pieces))


def test_stop_sequences_are_told(client: Anthropic) -> None:
    text = ask(client).content[0].text
    stop = text.split()[5]
    answer = ask(client, stop_sequences=["never said", stop])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", stop)
    assert text.startswith(answer.content[0].text)
    last = list(ask(client, stop_sequences=[stop], stream=True))[-2]
    assert (last.delta.stop_reason, last.delta.stop_sequence) == ("stop_sequence", stop)


class Forecast(BaseModel):
    """The client sends no limits of lengths and numbers, so that none is here."""

    city: Literal["Ulm", "Bonn"]
    days: Literal[1, 3, 7]


def test_structured_output_is_parsed(client: Anthropic) -> None:
    message = client.messages.parse(
        model="default", max_tokens=100, output_format=Forecast,
        messages=[{"role": "user", "content": "The weather in Ulm for 3 days."}],
    )  # fmt: skip
    assert isinstance(message.parsed_output, Forecast)


def test_tokens_are_counted(client: Anthropic) -> None:
    messages: list[Any] = [{"role": "user", "content": "Count these words."}]
    counted = client.messages.count_tokens(model="default", messages=messages, system=RULES)
    ask(client, messages=messages, system=RULES)
    usage = ask(client, messages=messages, system=RULES).usage
    assert usage.cache_read_input_tokens == counted.input_tokens - 1
    assert usage.input_tokens == 1


def test_what_claude_code_puts_first_spoils_no_cached_prefix(client: Anthropic) -> None:
    def read(number: int) -> int:
        account = f"x-anthropic-billing-header: cc_version=2; cch={number};"
        system = [{"type": "text", "text": account}, {"type": "text", "text": RULES}]
        usage: int = ask(client, system=system).usage.cache_read_input_tokens
        return usage

    read(1)
    assert read(2) > 20


def test_mistakes_are_explained(client: Anthropic) -> None:
    image = {"type": "image", "source": {"type": "url", "url": "x"}}
    for fields, words in (
        ({"messages": [{"role": "user", "content": "word " * 30_000}]}, "tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [image]}]}, "messages.0.content.0"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "nobody"}}, "nobody"),
    ):
        with pytest.raises(BadRequestError, match=words) as refused:
            ask(client, **fields)
        assert kind_of(refused.value) == "invalid_request_error"


def kind_of(error: APIStatusError) -> str:
    assert isinstance(error.body, dict)
    assert error.body["type"] == "error"
    kind: str = error.body["error"]["type"]
    return kind
