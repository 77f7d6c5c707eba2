"""Tools over HTTP as OpenAI's client uses them, on the default model, whose template knows none."""

import json
import re
from typing import Any

import pytest
from openai import OpenAI, pydantic_function_tool
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, Field

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How warm is it in Ulm?"}]


class Weather(BaseModel):
    """The weather in a city."""

    city: str = Field(max_length=12)
    days: int = Field(ge=1, le=7)


TOOLS = [pydantic_function_tool(Weather, name="weather")]


def ask(client: OpenAI, **fields: Any) -> Any:
    defaults = {"model": "default", "messages": MESSAGES, "tools": TOOLS, "max_tokens": 100,
                "seed": 4, "tool_choice": "required", "parallel_tool_calls": False}  # fmt: skip
    return client.chat.completions.create(**(defaults | fields))  # type: ignore[call-overload]


def test_a_required_call_validates_and_its_result_is_taken(client: OpenAI) -> None:
    choice = ask(client).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert call.function.name == "weather"
    Weather.model_validate_json(call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "20 degrees"}
    turns = [*MESSAGES, choice.message, result]
    answer = ask(client, messages=turns, tool_choice="none", max_tokens=20).choices[0]
    assert answer.message.content
    assert answer.message.tool_calls is None


def test_a_custom_tools_text_matches_its_regular_expression(client: OpenAI) -> None:
    grammar = {"type": "grammar", "grammar": {"syntax": "regex", "definition": "(at|by) [0-9]{2}h"}}
    tool = {"type": "custom", "custom": {"name": "clock", "format": grammar}}
    named = {"type": "custom", "custom": {"name": "clock"}}
    answer = ask(client, tools=[tool], tool_choice=named).choices[0].message
    (call,) = answer.tool_calls
    assert (call.type, call.custom.name) == ("custom", "clock")
    assert re.fullmatch("(at|by) [0-9]{2}h", call.custom.input)
    turns = [*MESSAGES, answer, {"role": "tool", "tool_call_id": call.id, "content": "ok"}]
    assert ask(client, tools=[tool], messages=turns, tool_choice="none").choices


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_text_is_an_answer_too(client: OpenAI, choice: str) -> None:
    answer = ask(client, tool_choice=choice, max_tokens=60, n=2)
    for each in answer.choices:
        assert each.finish_reason in ("stop", "length", "tool_calls")
        assert each.message.content or each.message.tool_calls
        if each.finish_reason == "tool_calls":
            json.loads(each.message.tool_calls[0].function.arguments)
