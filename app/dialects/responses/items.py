"""The items of a conversation, as clients send them, and the messages that they are."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import ConfigDict, Discriminator, Field, Tag, TypeAdapter

from app.dialects.bodies import TextOr
from app.dialects.fields import Fields
from app.dialects.openai.custom_tools import arguments_of
from app.dialects.openai.messages import CalledFunction
from medusa.text.tool_formats import Message

_NOT_FOR_US = frozenset(
    {
        "code_interpreter_call",
        "compaction",
        "compaction_trigger",
        "computer_call",
        "computer_call_output",
        "file_search_call",
        "image_generation_call",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
        "mcp_list_tools",
        "web_search_call",
    }
)
"""Traces of tools that other servers run themselves; a conversation is read without them."""


def new_id(prefix: str) -> str:
    """An id for something of this kind."""
    return f"{prefix}_{uuid4().hex}"


def in_namespace(namespace: str | None, name: str) -> str:
    """What the model calls a tool, which is how MCP's names are written elsewhere."""
    return name if namespace is None else f"{namespace}__{name}"


class TextPart(Fields):
    """A piece of text, whoever says it; there are no pieces of another kind."""

    type: Literal["input_text", "output_text", "text", "summary_text", "reasoning_text"]
    text: str


class UnseenPart(Fields):
    """What a tool has found that is no text: the model is told that there is something."""

    type: Literal["input_image", "input_file"]

    @property
    def text(self) -> str:
        """What the model is told."""
        return f"[{self.type}, which cannot be shown here]"


class RefusalPart(Fields):
    """What a model says instead of an answer."""

    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        """What it says."""
        return self.refusal


Content = TextOr[Annotated[TextPart | RefusalPart, Field(discriminator="type")]]


def _parts(
    content: str | Sequence[TextPart | RefusalPart | UnseenPart],
) -> str | list[dict[str, str]]:
    """Content as chat templates take it."""
    if isinstance(content, str):
        return content
    if len(content) == 1:
        return content[0].text
    return [{"type": "text", "text": part.text} for part in content]


class Item(Fields):
    """An item; it has an id where the client gives it none."""

    id: str = Field(default_factory=lambda: new_id("item"))

    def listed(self) -> dict[str, Any]:
        """The item as the API tells of it."""
        return self.model_dump(exclude_none=True) | {"status": "completed"}


class MessageItem(Item):
    """What somebody says."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content

    def listed(self) -> dict[str, Any]:
        """See Item."""
        kind = "output_text" if self.role == "assistant" else "input_text"
        content = self.content
        if isinstance(content, str):
            parts = [{"type": kind, "text": content}]
        else:
            parts = [part.model_dump() for part in content]
        return super().listed() | {"content": parts}


class FunctionCallItem(CalledFunction, Item):
    """A call that the assistant made."""

    type: Literal["function_call"]
    call_id: str
    namespace: str | None = None

    def message(self) -> dict[str, Any]:
        """The call as chat templates know it."""
        return _call(self.call_id, in_namespace(self.namespace, self.name), self.arguments)


class CustomToolCallItem(Item):
    """A call of a custom tool that the assistant made."""

    type: Literal["custom_tool_call"]
    call_id: str
    name: str
    namespace: str | None = None
    input: str

    def message(self) -> dict[str, Any]:
        """The call as chat templates know it."""
        name = in_namespace(self.namespace, self.name)
        return _call(self.call_id, name, arguments_of(self.input))


class CallOutputItem(Item):
    """What came of a call."""

    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: str
    output: TextOr[Annotated[TextPart | UnseenPart, Field(discriminator="type")]]


class ReasoningItem(Item):
    """What the assistant thought; where there is no text, nothing is read."""

    type: Literal["reasoning"]
    summary: list[TextPart] = Field(default_factory=list)
    content: list[TextPart] | None = None

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(part.text for part in self.content or self.summary)


class OtherItem(Item):
    """A trace of what another server did by itself; a conversation is read without it."""

    model_config = ConfigDict(extra="allow")

    type: str


class ItemReference(Fields):
    """An item of a response that is kept."""

    type: Literal["item_reference"] = "item_reference"
    id: str


KeptItem = (
    MessageItem | FunctionCallItem | CustomToolCallItem | CallOutputItem | ReasoningItem | OtherItem
)


def _kind(value: Any) -> str:
    """Which of the kinds an item is; some clients leave it to be guessed."""
    if not isinstance(value, dict):
        return str(getattr(value, "type", ""))
    kind = value.get("type")
    if kind is None:
        return "message" if "role" in value else "item_reference"
    kind = str(kind)
    if kind in _NOT_FOR_US:
        return "other"
    return "output" if kind.endswith("_call_output") else kind


InputItem = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[CustomToolCallItem, Tag("custom_tool_call")]
    | Annotated[CallOutputItem, Tag("output")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[ItemReference, Tag("item_reference")]
    | Annotated[OtherItem, Tag("other")],
    Discriminator(
        _kind,
        custom_error_type="unknown_item",
        custom_error_message="items of this type are not supported",
    ),
]

_KEPT: TypeAdapter[Any] = TypeAdapter(InputItem)


def read_kept(items: Iterable[bytes]) -> list[KeptItem]:
    """Items from their JSON."""
    return [_KEPT.validate_json(item) for item in items]


def messages_of(instructions: str | None, items: Sequence[KeptItem]) -> list[Message]:
    """The messages of a conversation, as chat templates know them.

    What the system says at the beginning is one message, since many templates take no more. What
    the assistant thinks, says and calls without anybody in between is one as well.

    Args:
        instructions: come before everything else.
        items: what was said and done.
    """
    messages = _Messages()
    if instructions:
        messages.add_said("system", instructions)
    for item in items:
        messages.add(item)
    return [each for each in messages.all if each["role"] != "assistant" or _says(each)]


class _Messages:
    """Messages, made of items one after the other."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def add(self, item: KeptItem) -> None:
        match item:
            case MessageItem(role=role, content=content):
                self.add_said("system" if role == "developer" else role, _parts(content))
            case FunctionCallItem() | CustomToolCallItem():
                self._assistant().setdefault("tool_calls", []).append(item.message())
            case CallOutputItem(call_id=call_id, output=output):
                result = {"role": "tool", "tool_call_id": call_id, "content": _parts(output)}
                self.all.append(result)
            case ReasoningItem(text=text) if text:
                if _says(self._assistant()):
                    self.all.append({"role": "assistant", "content": None})
                self._assistant()["reasoning_content"] = text

    def add_said(self, role: str, content: str | list[dict[str, str]]) -> None:
        if role == "system" and [each["role"] for each in self.all] == ["system"]:
            self.all[0]["content"] = [*_as_list(self.all[0]["content"]), *_as_list(content)]
        elif role == "assistant" and not _says(self._assistant()):
            self._assistant()["content"] = content
        else:
            self.all.append({"role": role, "content": content})

    def _assistant(self) -> dict[str, Any]:
        """The assistant's message that is going on."""
        if not self.all or self.all[-1]["role"] != "assistant":
            self.all.append({"role": "assistant", "content": None})
        return self.all[-1]


def _says(message: Message) -> bool:
    return bool(message["content"] or message.get("tool_calls"))


def _as_list(content: str | list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}
