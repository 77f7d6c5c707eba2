"""The items that an answer consists of, and the events that tell of their coming to be."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.dialects.openai.answers import new_call_id
from app.dialects.openai.custom_tools import text_of
from app.dialects.openai.logprobs import TokenLogprobBody
from app.dialects.responses.items import new_id

Event = dict[str, Any]
Status = Literal["in_progress", "completed", "incomplete"]


class OutputItem(BaseModel, ABC):
    """An item that grows while the model writes it."""

    id: str
    status: Status = "in_progress"

    @abstractmethod
    def begin(self) -> Iterator[Event]:
        """What is told of what is in it before there is any text."""

    @abstractmethod
    def add(self, text: str, logprobs: Sequence[TokenLogprobBody]) -> Iterator[Event]:
        """Take more of its text, and tell of that."""

    @abstractmethod
    def end(self) -> Iterator[Event]:
        """What is told when its text is whole."""


class OutputText(BaseModel):
    """The text of a message."""

    type: Literal["output_text"] = "output_text"
    text: str = ""
    annotations: list[dict[str, Any]] = Field(default_factory=list, description="Always empty.")
    logprobs: list[TokenLogprobBody] = Field(default_factory=list)


class Message(OutputItem):
    """What the assistant says."""

    id: str = Field(default_factory=lambda: new_id("msg"))
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    content: list[OutputText] = Field(default_factory=list)

    def begin(self) -> Iterator[Event]:
        """See OutputItem."""
        self.content.append(OutputText())
        yield self._event("content_part.added", part=self.content[0].model_copy())

    def add(self, text: str, logprobs: Sequence[TokenLogprobBody]) -> Iterator[Event]:
        """See OutputItem."""
        self.content[0].text += text
        self.content[0].logprobs.extend(logprobs)
        yield self._event("output_text.delta", delta=text, logprobs=logprobs)

    def end(self) -> Iterator[Event]:
        """See OutputItem."""
        part = self.content[0]
        yield self._event("output_text.done", text=part.text, logprobs=part.logprobs)
        yield self._event("content_part.done", part=part)

    def _event(self, name: str, **fields: Any) -> Event:
        return {"type": f"response.{name}", "item_id": self.id, "content_index": 0, **fields}


class ReasoningText(BaseModel):
    """What the model thinks."""

    type: Literal["reasoning_text", "summary_text"]
    text: str = ""


class Reasoning(OutputItem):
    """What the assistant thinks: as a summary, where one is asked for, or as it is."""

    id: str = Field(default_factory=lambda: new_id("rs"))
    type: Literal["reasoning"] = "reasoning"
    summary: list[ReasoningText] = Field(default_factory=list)
    content: list[ReasoningText] | None = None
    encrypted_content: None = None

    def begin(self) -> Iterator[Event]:
        """See OutputItem."""
        kind: Literal["reasoning_text", "summary_text"]
        kind = "summary_text" if self.content is None else "reasoning_text"
        part = ReasoningText(type=kind)
        (self.summary if self.content is None else self.content).append(part)
        yield self._event("part.added", part=part.model_copy())

    def add(self, text: str, logprobs: Sequence[TokenLogprobBody]) -> Iterator[Event]:
        """See OutputItem."""
        self._part.text += text
        yield self._event("text.delta", delta=text)

    def end(self) -> Iterator[Event]:
        """See OutputItem."""
        yield self._event("text.done", text=self._part.text)
        yield self._event("part.done", part=self._part)

    @property
    def _part(self) -> ReasoningText:
        return (self.content or self.summary)[0]

    def _event(self, name: str, **fields: Any) -> Event:
        if self.content is None:
            kind, index = "reasoning_summary_", "summary_index"
        else:
            kind = "content_" if name.startswith("part") else "reasoning_"
            index = "content_index"
        return {"type": f"response.{kind}{name}", "item_id": self.id, index: 0, **fields}


class FunctionCall(OutputItem):
    """A function that is called."""

    id: str = Field(default_factory=lambda: new_id("fc"))
    type: Literal["function_call"] = "function_call"
    call_id: str = Field(default_factory=new_call_id)
    name: str
    namespace: str | None = None
    arguments: str = ""

    def begin(self) -> Iterator[Event]:
        """See OutputItem."""
        yield from ()

    def add(self, text: str, logprobs: Sequence[TokenLogprobBody]) -> Iterator[Event]:
        """See OutputItem."""
        self.arguments += text
        yield self._event("delta", delta=text)

    def end(self) -> Iterator[Event]:
        """See OutputItem."""
        yield self._event("done", name=self.name, arguments=self.arguments)

    def _event(self, what: str, **fields: Any) -> Event:
        kind = f"response.function_call_arguments.{what}"
        return {"type": kind, "item_id": self.id, **fields}


class CustomToolCall(OutputItem):
    """A custom tool that is called."""

    id: str = Field(default_factory=lambda: new_id("ctc"))
    type: Literal["custom_tool_call"] = "custom_tool_call"
    call_id: str = Field(default_factory=new_call_id)
    name: str
    namespace: str | None = None
    input: str = ""
    arguments: str = Field(default="", exclude=True)  # the JSON object that the text is in

    def begin(self) -> Iterator[Event]:
        """See OutputItem."""
        yield from ()

    def add(self, text: str, logprobs: Sequence[TokenLogprobBody]) -> Iterator[Event]:
        """See OutputItem; the text of JSON is known when that is whole."""
        self.arguments += text
        yield from ()

    def end(self) -> Iterator[Event]:
        """See OutputItem."""
        self.input = text_of(self.arguments)
        yield self._event("delta", delta=self.input)
        yield self._event("done", input=self.input)

    def _event(self, name: str, **fields: Any) -> Event:
        return {"type": f"response.custom_tool_call_input.{name}", "item_id": self.id, **fields}


AnyOutput = Annotated[
    Message | Reasoning | FunctionCall | CustomToolCall, Field(discriminator="type")
]
