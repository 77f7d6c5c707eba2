"""The helpers of OpenAI's own client: parsing into models, streams as events, tools from models."""

import asyncio
from typing import cast

import pytest
from openai import AsyncOpenAI, LengthFinishReasonError, OpenAI, pydantic_function_tool
from openai.types.chat import ChatCompletionMessageParam, ParsedChatCompletion

from tests.clients.asked import TO_DESCRIBE, TO_TELL, Weather, Zoo

TOOLS = [pydantic_function_tool(Weather, name="weather")]


def called(completion: ParsedChatCompletion[None]) -> Weather:
    """The arguments of the one call that an answer is."""
    (choice,) = completion.choices
    assert choice.finish_reason == "tool_calls"
    assert not choice.message.content
    (call,) = choice.message.tool_calls or []
    assert call.id
    assert call.function.name == "weather"
    assert isinstance(call.function.parsed_arguments, Weather)
    assert Weather.model_validate_json(call.function.arguments) == call.function.parsed_arguments
    return call.function.parsed_arguments


def test_answers_are_parsed_into_models(client: OpenAI) -> None:
    completion = client.chat.completions.parse(
        model="default", messages=TO_DESCRIBE, response_format=Zoo, n=2, seed=1
    )
    assert len(completion.choices) == 2
    for choice in completion.choices:
        assert choice.finish_reason == "stop"
        assert isinstance(choice.message.parsed, Zoo)


def test_a_stream_of_content_ends_in_a_model(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="default", messages=TO_DESCRIBE, response_format=Zoo, seed=1,
        stream_options={"include_usage": True},
    ) as stream:  # fmt: skip
        events = list(stream)
        completion = stream.get_final_completion()
    deltas = [event.delta for event in events if event.type == "content.delta"]
    (done,) = [event for event in events if event.type == "content.done"]
    assert len(deltas) > 1
    assert "".join(deltas) == done.content
    assert isinstance(done.parsed, Zoo)
    assert completion.choices[0].message.parsed == done.parsed
    assert completion.usage is not None
    assert completion.usage.completion_tokens > 0


def test_what_is_cut_short_is_not_parsed(client: OpenAI) -> None:
    with pytest.raises(LengthFinishReasonError):
        client.chat.completions.parse(
            model="default", messages=TO_DESCRIBE, response_format=Zoo, max_tokens=4
        )


def test_calls_are_parsed_and_their_results_taken(client: OpenAI) -> None:
    completion = client.chat.completions.parse(
        model="default", messages=TO_TELL, tools=TOOLS, tool_choice="required",
        parallel_tool_calls=False, seed=4,
    )  # fmt: skip
    assert 1 <= called(completion).days <= 7
    message = completion.choices[0].message
    assert message.tool_calls
    answer = client.chat.completions.create(
        model="default",
        messages=[
            *TO_TELL,
            cast(ChatCompletionMessageParam, message),  # as OpenAI's own examples do it
            {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "20 degrees"},
        ],
        tools=TOOLS,
        tool_choice="none",
        max_tokens=20,
        seed=4,
    )
    assert answer.choices[0].message.content
    assert answer.choices[0].message.tool_calls is None


def test_a_stream_of_a_call_ends_in_a_model(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="default", messages=TO_TELL, tools=TOOLS, parallel_tool_calls=False, seed=4,
        tool_choice={"type": "function", "function": {"name": "weather"}},
    ) as stream:  # fmt: skip
        events = list(stream)
        arguments = called(stream.get_final_completion())
    deltas = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
    (done,) = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert len(deltas) > 1
    assert "".join(event.arguments_delta for event in deltas) == done.arguments
    assert done.name == "weather"
    assert done.parsed_arguments == arguments


def test_the_asynchronous_client_does_the_same(url: str) -> None:
    async def both() -> tuple[ParsedChatCompletion[Zoo], ParsedChatCompletion[None]]:
        async with AsyncOpenAI(base_url=url, api_key="none", timeout=600) as client:
            parsed = client.chat.completions.parse(
                model="default", messages=TO_DESCRIBE, response_format=Zoo
            )
            async with client.chat.completions.stream(
                model="default", messages=TO_TELL, tools=TOOLS, tool_choice="required",
                parallel_tool_calls=False,
            ) as stream:  # fmt: skip
                return await parsed, await stream.get_final_completion()

    described, told = asyncio.run(both())
    assert isinstance(described.choices[0].message.parsed, Zoo)
    called(told)
