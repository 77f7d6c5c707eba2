"""The blocks that messages consist of, as clients send them, and the messages of templates."""

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag
from pydantic_core import to_json

from app.dialects.bodies import TextOr
from app.dialects.fields import Fields
from medusa.text.tool_formats import Message

_ACCOUNTS = re.compile(r"x-anthropic-billing-header:[^\n]*\n?")
"""What Claude Code puts before its system prompt, another with each request: as a part of the
prompt it would let no cached prefix be good for the next one."""

_NOT_FOR_US = frozenset({"redacted_thinking", "server_tool_use", "container_upload"})
"""Traces of what only Anthropic's servers can read or run, with the results of such tools."""


class TextBlock(Fields):
    """A piece of text."""

    type: Literal["text"]
    text: str

    def for_template(self) -> dict[str, str]:
        """The text as chat templates know it."""
        return {"type": "text", "text": self.text}


class ThinkingBlock(Fields):
    """What the assistant thought."""

    type: Literal["thinking"]
    thinking: str


class ToolUseBlock(Fields):
    """A call that the assistant made."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]

    def for_template(self) -> dict[str, Any]:
        """The call as chat templates know it."""
        arguments = to_json(self.input).decode()
        function = {"name": self.name, "arguments": arguments}
        return {"id": self.id, "type": "function", "function": function}


class UnseenBlock(Fields):
    """What a tool has found that is no text: the model is told that there is something."""

    type: Literal["image", "document", "search_result", "tool_reference"]

    def for_template(self) -> dict[str, str]:
        """What the model is told."""
        return {"type": "text", "text": f"[{self.type}, which cannot be shown here]"}


class ToolResultBlock(Fields):
    """What came of a call."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: TextOr[Annotated[TextBlock | UnseenBlock, Field(discriminator="type")]] = ""
    is_error: bool = Field(False, description="Accepted; the content says what went wrong.")

    def for_template(self) -> dict[str, Any]:
        """The result as chat templates know it."""
        return {"role": "tool", "tool_call_id": self.tool_use_id, "content": told(self.content)}


class OtherBlock(Fields):
    """A trace of what another server did by itself; a conversation is read without it."""

    type: str


def _kind(value: Any) -> str:
    kind = str(value.get("type") if isinstance(value, dict) else getattr(value, "type", ""))
    is_result = kind.endswith("_tool_result")
    return "other" if is_result or kind in _NOT_FOR_US else kind


Block = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ThinkingBlock, Tag("thinking")]
    | Annotated[ToolUseBlock, Tag("tool_use")]
    | Annotated[ToolResultBlock, Tag("tool_result")]
    | Annotated[OtherBlock, Tag("other")],
    Discriminator(
        _kind,
        custom_error_type="unknown_block",
        custom_error_message="blocks of this type are not supported; text is",
    ),
]


class InputMessage(Fields):
    """What somebody says or does."""

    role: Literal["user", "assistant", "system"]
    content: TextOr[Block]

    @property
    def blocks(self) -> Sequence[Any]:
        """The content as blocks."""
        if isinstance(self.content, str):
            return [TextBlock(type="text", text=self.content)]
        return self.content


def told(content: str | Sequence[TextBlock | UnseenBlock]) -> str | list[dict[str, str]]:
    """Content as chat templates take it."""
    if isinstance(content, str):
        return content
    parts = [block.for_template() for block in content]
    return parts[0]["text"] if len(parts) == 1 else parts


def _without_accounts(system: str | Sequence[TextBlock]) -> str | Sequence[TextBlock]:
    if isinstance(system, str):
        return _ACCOUNTS.sub("", system, count=1) if _ACCOUNTS.match(system) else system
    if not (system and _ACCOUNTS.match(system[0].text)):
        return system
    first = TextBlock(type="text", text=_ACCOUNTS.sub("", system[0].text, count=1))
    return [first, *system[1:]] if first.text else system[1:]


def messages_of(
    system: str | Sequence[TextBlock], messages: Iterable[InputMessage]
) -> Sequence[Message]:
    """The messages of a conversation, as chat templates know them.

    Results of tools are messages of their own. Messages of the same role that follow each other
    are one, as Anthropic reads them and many templates demand.
    """
    made: list[dict[str, Any]] = []
    said: list[tuple[str, list[Any]]] = []
    for message in messages:
        if said and said[-1][0] == message.role:
            said[-1][1].extend(message.blocks)
        else:
            said.append((message.role, list(message.blocks)))
    if rules := _without_accounts(system):
        made.append({"role": "system", "content": told(rules)})
    for role, blocks in said:
        made += (block.for_template() for block in blocks if isinstance(block, ToolResultBlock))
        texts = [block for block in blocks if isinstance(block, TextBlock)]
        calls = [block.for_template() for block in blocks if isinstance(block, ToolUseBlock)]
        if not (texts or calls):
            continue
        made.append({"role": role, "content": told(texts) if texts else None})
        thoughts = [block.thinking for block in blocks if isinstance(block, ThinkingBlock)]
        if thoughts := [thought for thought in thoughts if thought]:
            made[-1]["reasoning_content"] = "\n".join(thoughts)
        if calls:
            made[-1]["tool_calls"] = calls
    return made
