"""The messages of a conversation in Ollama's words, and in those of chat templates."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from app.dialects.fields import Fields
from app.dialects.ollama.body import no_images
from medusa.text.tool_formats import Message


class CalledFunction(Fields):
    """What a call was made of."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class MadeCall(Fields):
    """A call that the assistant made."""

    function: CalledFunction


class OllamaMessage(Fields):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    thinking: str | None = Field(None, description="Of the assistant.")
    images: None = Field(None, description="Not supported.")
    tool_calls: list[MadeCall] = Field(default_factory=list, description="Of the assistant.")
    tool_name: str | None = Field(None, description="Whose result a tool's message is.")
    name: str | None = Field(None, description="Older name of tool_name.")

    @field_validator("images", mode="plain", json_schema_input_type=list[str] | None)
    @classmethod
    def _no_images(cls, value: Any) -> None:
        no_images(value)


def for_template(messages: Iterable[OllamaMessage]) -> list[Message]:
    """The messages as chat templates know them; calls get ids, which results then name."""
    waiting: list[tuple[str, str]] = []  # id and tool of calls that have no result yet
    ids = _ids()
    return [_message(each, waiting, ids) for each in messages]


def _message(message: OllamaMessage, waiting: list[tuple[str, str]], ids: Iterator[str]) -> Message:
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.role == "assistant" and message.thinking:
        said["reasoning_content"] = message.thinking
    if message.role == "assistant" and message.tool_calls:
        functions = [call.function for call in message.tool_calls]
        calls = [(next(ids), each.name) for each in functions]
        waiting[:] = calls
        said["tool_calls"] = [
            {
                "id": call,
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(function.arguments)},
            }
            for (call, name), function in zip(calls, functions, strict=True)
        ]
    if message.role == "tool":
        name = message.tool_name or message.name
        answered = _answered(waiting, name)
        if answered is not None:
            waiting.remove(answered)
            said["tool_call_id"] = answered[0]
        if name is not None:
            said["name"] = name
    return said


def _answered(waiting: Sequence[tuple[str, str]], name: str | None) -> tuple[str, str] | None:
    """The call that a result belongs to: the first of this tool, or the first of all."""
    return next((call for call in waiting if name in (None, call[1])), None)


def _ids() -> Iterator[str]:
    """Ids as Mistral's chat templates insist on: nine letters and digits."""
    number = 0
    while True:
        yield f"call{number:05d}"
        number += 1
