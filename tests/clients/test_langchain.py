"""langchain-openai: with_structured_output and bind_tools."""

from collections.abc import Iterator
from typing import Any, Literal

import httpx
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.clients.asked import DESCRIBE, HOW_WARM, Weather, Zoo


@tool(args_schema=Weather)
def weather(city: str, days: int) -> str:
    """The weather in a city."""
    return f"20 degrees in {city} for {days} days"


@pytest.fixture
def model(url: str) -> Iterator[ChatOpenAI]:
    with httpx.Client(timeout=600) as http:
        yield ChatOpenAI(
            model="default", base_url=url, api_key=SecretStr("none"), seed=2, http_client=http
        )


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_answers_are_models(
    model: ChatOpenAI, method: Literal["json_schema", "function_calling"]
) -> None:
    zoo = model.with_structured_output(Zoo, method=method).invoke(DESCRIBE)
    assert isinstance(zoo, Zoo)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")  # LangChain's own
def test_a_stream_ends_in_a_model(model: ChatOpenAI) -> None:
    *_, zoo = model.with_structured_output(Zoo).stream(DESCRIBE)
    assert isinstance(zoo, Zoo)


def test_a_schema_gives_a_dictionary(model: ChatOpenAI) -> None:
    schema: dict[str, Any] = Zoo.model_json_schema()
    Zoo.model_validate(model.with_structured_output(schema, strict=True).invoke(DESCRIBE))


@pytest.mark.parametrize("choice", ["any", "weather"])
def test_a_bound_tool_is_called_and_its_result_taken(model: ChatOpenAI, choice: str) -> None:
    calling = model.bind_tools([weather], tool_choice=choice, parallel_tool_calls=False)
    question = HumanMessage(HOW_WARM)
    message = calling.invoke([question])
    assert isinstance(message, AIMessage)
    assert message.invalid_tool_calls == []
    (call,) = message.tool_calls
    assert call["name"] == "weather"
    result = weather.invoke(call)
    assert isinstance(result, ToolMessage)
    assert str(result.content).startswith("20 degrees in ")
    answer = model.bind_tools([weather], tool_choice="none", max_tokens=20).invoke(
        [question, message, result]
    )
    assert answer.content
    assert answer.tool_calls == []


def test_a_streamed_call_adds_up(model: ChatOpenAI) -> None:
    calling = model.bind_tools([weather], tool_choice="any", parallel_tool_calls=False)
    first, *others = calling.stream(HOW_WARM)
    message = first
    for other in others:
        message += other  # type: ignore[assignment]  # chunks add up to chunks
    assert isinstance(message, AIMessageChunk)
    (call,) = message.tool_calls
    Weather.model_validate(call["args"])
