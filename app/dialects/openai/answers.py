"""The assistant's message, whole or in pieces: content, reasoning and tool calls."""

import secrets
import string
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

from app.dialects.bodies import NullsLeftOut
from app.dialects.openai.common import REASONS, Reason
from app.dialects.openai.custom_tools import text_of
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


class CustomCall(BaseModel):
    """Which custom tool to call, and with what text."""

    name: str
    input: str


class ToolCall(NullsLeftOut):
    """A call, of a function or of a custom tool."""

    id: str
    type: Literal["function", "custom"]
    function: FunctionCall | None = None
    custom: CustomCall | None = None


class FunctionDelta(TypedDict):
    """What a chunk adds to whom to call, and with what."""

    name: NotRequired[str]
    arguments: str


class CustomDelta(TypedDict):
    """A call of a custom tool, which one chunk tells whole."""

    name: str
    input: str


class ToolCallDelta(TypedDict):
    """What a chunk adds to a call; the first has all but a function's arguments."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function", "custom"]]
    function: NotRequired[FunctionDelta]
    custom: NotRequired[CustomDelta]


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
        custom: names of custom tools, whose calls are told when they are whole.
    """

    def __init__(self, form: AnswerForm, custom: Collection[str] = ()) -> None:
        self._parser = AnswerParser(form)
        self._custom = custom
        self._calls = 0
        self._open: _OpenCall | None = None  # of a custom tool

    def feed(self, text: str) -> MessageDelta:
        """What more text adds."""
        return self._delta(self._parser.feed(text))

    def finish(self) -> MessageDelta:
        """What is left at the end."""
        return self._delta(self._parser.finish(), ends=True)

    def whole(self, text: str) -> AnswerMessage:
        """The message of this text, which is all there is."""
        delta = self._delta([*self._parser.feed(text), *self._parser.finish()], ends=True)
        calls = [ToolCall.model_validate(each) for each in delta.get("tool_calls", ())]
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

    def _delta(self, parts: Iterable[Part], *, ends: bool = False) -> MessageDelta:
        delta: MessageDelta = {}
        calls: list[ToolCallDelta] = []
        for part in parts:
            match part:
                case Content(text=text):
                    delta["content"] = delta.get("content", "") + text
                case Reasoning(text=text):
                    delta["reasoning_content"] = delta.get("reasoning_content", "") + text
                case Call(name=name):
                    calls += self._close()
                    if name in self._custom:
                        self._open = _OpenCall(name)
                    else:
                        call = self._call("function")
                        call["function"] = {"name": name, "arguments": ""}
                        calls.append(call)
                case Arguments(text=text) if self._open is not None:
                    self._open.arguments += text
                case Arguments(text=text):
                    if not calls:
                        calls.append({"index": self._calls - 1, "function": {"arguments": ""}})
                    calls[-1]["function"]["arguments"] += text
        if ends:
            calls += self._close()
        if calls:
            delta["tool_calls"] = calls
        return delta

    def _close(self) -> Iterator[ToolCallDelta]:
        """The call of a custom tool that has come to its end, if there is one."""
        if self._open is not None:
            call = self._call("custom")
            call["custom"] = {"name": self._open.name, "input": text_of(self._open.arguments)}
            self._open = None
            yield call

    def _call(self, kind: Literal["function", "custom"]) -> ToolCallDelta:
        """The beginning of what a chunk tells of a new call."""
        self._calls += 1
        return {"index": self._calls - 1, "id": new_call_id(), "type": kind}


@dataclass
class _OpenCall:
    """A call of a custom tool that is being written."""

    name: str
    arguments: str = ""
