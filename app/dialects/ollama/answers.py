"""Ollama's answers, whole or line by line."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from app.dialects.bodies import NullsLeftOut
from app.dialects.openai.logprobs import TokenLogprobBody
from medusa.engine.events import FinishReason, Usage
from medusa.text.answers import AnswerForm, AnswerParser, Arguments, Call, Content, Part, Reasoning

_NANOSECONDS = 1e9


def now() -> str:
    """The time, as Ollama writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class FunctionCall(BaseModel):
    """Whom to call, and with what."""

    index: int
    name: str
    arguments: dict[str, Any]


class ToolCall(BaseModel):
    """A call."""

    function: FunctionCall


class Statistics(NullsLeftOut):
    """How it ended and what it took; durations in nanoseconds."""

    done_reason: str | None = None
    total_duration: int | None = None
    load_duration: int | None = Field(None, description="What it waited for a slot.")
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None


class Line(Statistics):
    """What an answer's lines have in common."""

    model: str
    created_at: str = Field(default_factory=now)
    done: bool = False
    logprobs: list[TokenLogprobBody] | None = None


class AnswerMessage(NullsLeftOut):
    """The assistant's message, or what a line adds to it."""

    role: str = "assistant"
    content: str = ""
    thinking: str | None = None
    tool_calls: list[ToolCall] | None = None


class ChatLine(Line):
    """A line of /api/chat, or all of the answer."""

    message: AnswerMessage


class GenerateLine(Line):
    """A line of /api/generate, or all of the answer."""

    response: str = ""
    thinking: str | None = None
    context: list[int] | None = Field(None, description="To go on with in the next request.")


@dataclass
class Added:
    """What more text adds to an answer."""

    content: str = ""
    thinking: str = ""
    calls: list[ToolCall] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.content or self.thinking or self.calls)


class Writer:
    """Takes an answer's text apart. A call is told when it is whole.

    Args:
        form: what the answer may consist of.
    """

    def __init__(self, form: AnswerForm) -> None:
        self._parser = AnswerParser(form)
        self._name: str | None = None  # of the call that has begun
        self._arguments = ""
        self._n_calls = 0

    def feed(self, text: str) -> Added:
        """What more text adds."""
        return self._added(self._parser.feed(text))

    def finish(self) -> Added:
        """What is left at the end; of a call that is not whole, nothing."""
        added = self._added(self._parser.finish())
        self._end_call(added)
        return added

    def _added(self, parts: Iterable[Part]) -> Added:
        added = Added()
        for part in parts:
            match part:
                case Content(text=text):
                    self._end_call(added)
                    added.content += text
                case Reasoning(text=text):
                    added.thinking += text
                case Call(name=name):
                    self._end_call(added)
                    self._name, self._arguments = name, ""
                case Arguments(text=text):
                    self._arguments += text
        return added

    def _end_call(self, added: Added) -> None:
        if self._name is None:
            return
        name, self._name = self._name, None
        try:
            arguments = json.loads(self._arguments)
        except ValueError:
            return
        call = FunctionCall(index=self._n_calls, name=name, arguments=arguments)
        added.calls.append(ToolCall(function=call))
        self._n_calls += 1


def statistics(usage: Usage, reason: FinishReason, total: int) -> dict[str, Any]:
    """The fields of Statistics.

    Args:
        usage: what the answer took.
        reason: why it ended.
        total: nanoseconds since the request came.
    """
    waited = int(usage.queue_seconds * _NANOSECONDS)
    answering = int(usage.decode_seconds * _NANOSECONDS)
    return {
        "done": True,
        "done_reason": reason.value,
        "total_duration": total,
        "load_duration": waited,
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": max(0, total - waited - answering),
        "eval_count": usage.completion_tokens,
        "eval_duration": answering,
    }
