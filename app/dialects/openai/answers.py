"""The assistant's message, whole or in pieces: content, reasoning and tool calls."""

import secrets
import string
from collections.abc import Iterable
from typing import Any, Literal, NotRequired, TypedDict

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

from app.dialects.openai.common import REASONS, Reason
from medusa.engine.events import FinishReason
from medusa.text.answers import (
    AnswerForm,
    AnswerParser,
    Arguments,
    Call,
    Content,
    Part,
    Reasoning,
)
from medusa.text.pieces import tokens_within

_ID_CHARACTERS = string.ascii_letters + string.digits
_ID_LENGTH = 9
"""What Mistral's chat templates insist on; others do not mind."""


def new_call_id() -> str:
    """An id for a call, good for all chat templates."""
    return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))


class FunctionCall(BaseModel):
    """Whom to call, and with what; the arguments are JSON, as text."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """A call."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class FunctionDelta(TypedDict):
    """What a chunk adds to whom to call, and with what."""

    name: NotRequired[str]
    arguments: str


class ToolCallDelta(TypedDict):
    """What a chunk adds to a call; the first has all but the arguments."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: FunctionDelta


class AnswerMessage(BaseModel):
    """The assistant's message. Reasoning and calls are left out where there are none."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None

    @model_serializer(mode="wrap")
    def _leave_out(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        return {
            name: value for name, value in fields.items() if value is not None or name == "content"
        }


class MessageDelta(TypedDict, total=False):
    """What a chunk adds to the assistant's message."""

    role: Literal["assistant"]
    content: str
    reasoning_content: str
    tool_calls: list[ToolCallDelta]


class Answer:
    """Puts one answer into a message's words while its text comes.

    Args:
        form: what it may consist of.
    """

    def __init__(self, form: AnswerForm) -> None:
        self._parser = AnswerParser(form)
        self._calls = 0

    def feed(self, text: str) -> MessageDelta:
        """What more text adds."""
        return self._delta(self._parser.feed(text))

    def finish(self) -> MessageDelta:
        """What is left at the end."""
        return self._delta(self._parser.finish())

    def whole(self, text: str) -> AnswerMessage:
        """The message of this text, which is all there is."""
        delta = self._delta([*self._parser.feed(text), *self._parser.finish()])
        calls = [
            ToolCall(id=each["id"], function=FunctionCall.model_validate(each["function"]))
            for each in delta.get("tool_calls", ())
        ]
        return AnswerMessage(
            content=delta.get("content", None if calls else ""),
            reasoning_content=delta.get("reasoning_content"),
            tool_calls=calls or None,
        )

    def reasoning_tokens(self, pieces: Iterable[bytes]) -> int:
        """How many of its tokens became reasoning, once it has ended.

        Args:
            pieces: what each of its tokens added to its text.
        """
        return tokens_within(pieces, self._parser.reasoning)

    def reason(self, reason: FinishReason | None) -> Reason:
        """Why it ended, in OpenAI's words."""
        assert reason is not None, "it has not ended"
        called = self._calls > 0 and reason is FinishReason.STOP
        return "tool_calls" if called else REASONS[reason]

    def _delta(self, parts: Iterable[Part]) -> MessageDelta:
        delta: MessageDelta = {}
        for part in parts:
            match part:
                case Content(text=text):
                    delta["content"] = delta.get("content", "") + text
                case Reasoning(text=text):
                    delta["reasoning_content"] = delta.get("reasoning_content", "") + text
                case Call(name=name):
                    call: ToolCallDelta = {
                        "index": self._calls,
                        "id": new_call_id(),
                        "type": "function",
                        "function": {"name": name, "arguments": ""},
                    }
                    delta.setdefault("tool_calls", []).append(call)
                    self._calls += 1
                case Arguments(text=text):
                    calls = delta.setdefault("tool_calls", [])
                    if not calls:
                        calls.append({"index": self._calls - 1, "function": {"arguments": ""}})
                    calls[-1]["function"]["arguments"] += text
        return delta
