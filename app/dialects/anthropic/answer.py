"""An answer in Anthropic's words: its blocks, and the events that tell of their coming to be."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from pydantic_core import from_json

from app.dialects.openai.answers import new_call_id
from medusa.engine.events import FinishReason, Usage
from medusa.text.answers import (
    AnswerForm,
    AnswerParser,
    Arguments,
    Call,
    Content,
    Part,
    Reasoning,
)

Event = dict[str, Any]
StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class Text(BaseModel):
    """What the assistant says."""

    type: Literal["text"] = "text"
    text: str = ""


class Thinking(BaseModel):
    """What it thinks."""

    type: Literal["thinking"] = "thinking"
    thinking: str = ""
    signature: str = ""


class ToolUse(BaseModel):
    """What it calls."""

    type: Literal["tool_use"] = "tool_use"
    id: str = Field(default_factory=new_call_id)
    name: str
    input: dict[str, Any] = Field(default_factory=dict)
    json_: str = Field(default="", exclude=True)  # the input's text, as far as it has come


AnyBlock = Annotated[Text | Thinking | ToolUse, Field(discriminator="type")]


class MessageUsage(BaseModel):
    """Token counts; what was found in the cache is no part of `input_tokens`."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int
    output_tokens: int


def usage_of(usage: Usage) -> MessageUsage:
    """Token counts in Anthropic's words."""
    return MessageUsage(
        input_tokens=usage.prompt_tokens - usage.cached_tokens,
        cache_read_input_tokens=usage.cached_tokens,
        output_tokens=usage.completion_tokens,
    )


class AnswerMessage(BaseModel):
    """The assistant's message."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[AnyBlock] = Field(default_factory=list)
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: MessageUsage


class Writer:
    """The blocks of one answer. Its methods tell what happens to them as events.

    Args:
        form: what the answer may consist of.
    """

    def __init__(self, form: AnswerForm) -> None:
        self.blocks: list[AnyBlock] = []
        self._parser = AnswerParser(form)
        self._open: AnyBlock | None = None  # the last block, while it grows

    def feed(self, text: str) -> Iterator[Event]:
        """Take more text."""
        yield from self._take(self._parser.feed(text))

    def finish(self) -> Iterator[Event]:
        """Take the end."""
        yield from self._take(self._parser.finish())
        yield from self._end()

    def reason(self, reason: FinishReason | None, stop: str | None) -> StopReason:
        """Why it ended.

        Args:
            reason: the engine's word for it.
            stop: the stop sequence that ended it, if one did.
        """
        if reason is FinishReason.LENGTH:
            return "max_tokens"
        if stop is not None:
            return "stop_sequence"
        called = any(isinstance(block, ToolUse) for block in self.blocks)
        return "tool_use" if called else "end_turn"

    def _take(self, parts: Iterable[Part]) -> Iterator[Event]:
        for part in parts:
            match part:
                case Content(text=text):
                    if not isinstance(self._open, Text):
                        yield from self._begin(Text())
                    yield self._add("text_delta", "text", text)
                case Reasoning(text=text):
                    if not isinstance(self._open, Thinking):
                        yield from self._begin(Thinking())
                    yield self._add("thinking_delta", "thinking", text)
                case Call(name=name):
                    yield from self._begin(ToolUse(name=name))
                case Arguments(text=text):
                    yield self._add("input_json_delta", "partial_json", text)

    def _begin(self, block: AnyBlock) -> Iterator[Event]:
        yield from self._end()
        self._open = block
        self.blocks.append(block)
        yield self._event("start", content_block=block.model_dump())

    def _add(self, kind: str, name: str, text: str) -> Event:
        match self._open:
            case Text():
                self._open.text += text
            case Thinking():
                self._open.thinking += text
            case ToolUse():
                self._open.json_ += text
        return self._event("delta", delta={"type": kind, name: text})

    def _end(self) -> Iterator[Event]:
        match self._open:
            case None:
                return
            case Thinking(signature=signature):
                yield self._event(
                    "delta", delta={"type": "signature_delta", "signature": signature}
                )
            case ToolUse(json_=text) if text:
                self._open.input = from_json(text, allow_partial="trailing-strings")
        yield self._event("stop")
        self._open = None

    def _event(self, what: str, **fields: Any) -> Event:
        return {"type": f"content_block_{what}", "index": len(self.blocks) - 1, **fields}
