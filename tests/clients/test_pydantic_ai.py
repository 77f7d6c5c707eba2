"""pydantic-ai: outputs by call and by schema, whole and streamed, and tools of an agent's own."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from openai import AsyncOpenAI
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.direct import model_request
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from tests.clients.asked import DESCRIBE, HOW_WARM, Weather, Zoo

ONE_CALL = ModelSettings(parallel_tool_calls=False, seed=3)
OUTPUTS = pytest.mark.parametrize(
    "output", [ToolOutput(Zoo), NativeOutput(Zoo)], ids=["call", "schema"]
)
Output = ToolOutput[Zoo] | NativeOutput[Zoo]


def run(url: str, ask: Callable[[OpenAIChatModel], Awaitable[None]]) -> None:
    """Let a model be asked."""

    async def asked() -> None:
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=600) as client:
            await ask(OpenAIChatModel("default", provider=OpenAIProvider(openai_client=client)))

    asyncio.run(asked())


@OUTPUTS
def test_outputs_are_models_without_a_second_try(url: str, output: Output) -> None:
    async def ask(model: OpenAIChatModel) -> None:
        agent = Agent(model, output_type=output, retries=0, model_settings=ONE_CALL)
        result = await agent.run(DESCRIBE)
        assert isinstance(result.output, Zoo)
        assert result.usage.requests == 1

    run(url, ask)


@OUTPUTS
def test_streamed_outputs_grow_into_models(url: str, output: Output) -> None:
    async def ask(model: OpenAIChatModel) -> None:
        agent = Agent(model, output_type=output, retries=0, model_settings=ONE_CALL)
        async with agent.run_stream(DESCRIBE) as stream:
            states = [state async for state in stream.stream_output(debounce_by=None)]
        assert isinstance(states[-1], Zoo)

    run(url, ask)


def test_a_tool_is_called_and_its_result_taken(url: str) -> None:
    weather = ToolDefinition(
        name="weather", parameters_json_schema=Weather.model_json_schema(), strict=True
    )
    calling = ModelRequestParameters(function_tools=[weather], allow_text_output=False)
    turns: list[ModelMessage] = [ModelRequest.user_text_prompt(HOW_WARM)]

    async def ask(model: OpenAIChatModel) -> None:
        response = await model_request(
            model, turns, model_settings=ONE_CALL, model_request_parameters=calling
        )
        assert response.finish_reason == "tool_call"
        (call,) = [part for part in response.parts if isinstance(part, ToolCallPart)]
        assert call.tool_name == "weather"
        Weather.model_validate(call.args_as_dict())
        result = ToolReturnPart("weather", "20 degrees", tool_call_id=call.tool_call_id)
        turns.extend([response, ModelRequest(parts=[result])])
        answer = await model_request(
            model, turns, model_settings=ModelSettings(max_tokens=20, seed=3)
        )
        assert any(isinstance(part, TextPart) and part.content for part in answer.parts)

    run(url, ask)
