"""A response, as the API has it."""

import time
from typing import Any, Literal

from pydantic import BaseModel, Field

from app.dialects.responses.body import ResponseBody
from app.dialects.responses.items import new_id
from app.dialects.responses.output import AnyOutput
from medusa.engine.events import Usage
from medusa.sampling.params import SamplingParams


class InputTokensDetails(BaseModel):
    """Where the input's tokens came from."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(BaseModel):
    """What the output's tokens are."""

    reasoning_tokens: int


class ResponseUsage(BaseModel):
    """Token counts of a response."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


def response_usage(usage: Usage, reasoning_tokens: int) -> ResponseUsage:
    """Token counts in the API's words."""
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(cached_tokens=usage.cached_tokens),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(reasoning_tokens=reasoning_tokens),
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )


class ResponseError(BaseModel):
    """Why there is no answer."""

    code: str
    message: str


class IncompleteDetails(BaseModel):
    """Why an answer is not whole."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class Response(BaseModel):
    """An answer, or what there is of it, with the settings that it was asked for with."""

    id: str = Field(default_factory=lambda: new_id("resp"))
    object: Literal["response"] = "response"
    created_at: int = Field(default_factory=lambda: int(time.time()))
    completed_at: int | None = None
    status: Literal["in_progress", "completed", "incomplete", "failed"] = "in_progress"
    background: bool = False
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    model: str
    output: list[AnyOutput] = Field(default_factory=list)
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: dict[str, str | None]
    safety_identifier: str | None
    service_tier: str = "default"
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: str
    usage: ResponseUsage | None = None
    user: str | None


def new_response(
    body: ResponseBody, model: str, sampling: SamplingParams, *, stored: bool
) -> Response:
    """The response to a body, of which there is nothing yet."""
    choice, reasoning = body.tool_choice, body.reasoning
    return Response(
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        max_tool_calls=body.max_tool_calls,
        metadata=body.metadata,
        model=model,
        parallel_tool_calls=body.parallel_tool_calls,
        previous_response_id=body.previous_response_id,
        prompt_cache_key=body.prompt_cache_key,
        reasoning={"effort": reasoning.effort, "summary": reasoning.summary},
        safety_identifier=body.safety_identifier,
        store=stored,
        temperature=sampling.temperature,
        text=body.text.model_dump(by_alias=True, exclude_none=True),
        tool_choice=choice if isinstance(choice, str) else choice.model_dump(),
        tools=[tool.model_dump() for tool in body.tools],
        top_logprobs=body.top_logprobs or 0,
        top_p=sampling.top_p,
        truncation=body.truncation,
        user=body.user,
    )
