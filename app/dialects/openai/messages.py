"""The messages of a conversation, as clients send them: theirs, and answers of any server."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import from_json

from app.dialects.fields import Fields, Matters
from app.dialects.limited import limits_of
from app.dialects.openai.custom_tools import arguments_of
from app.door.bounded_json import read_json

_TEXT = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Where parts of these types have their text."""
_THOUGHTS = {"thinking", "redacted_thinking", "reasoning"}
"""Parts of answers that are not given to models again."""


def _parts(content: list[Any], *, of_assistant: bool) -> list[dict[str, str]]:
    """The texts in a list of parts.

    Raises:
        ValueError: it holds something else.
    """
    parts = []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, dict) else None
        text = part if isinstance(part, str) else None
        if isinstance(kind, str) and isinstance(part, dict):
            if of_assistant and kind in _THOUGHTS:
                continue
            text = part.get(_TEXT.get(kind, ""))
        if not isinstance(text, str):
            raise ValueError("no text")
        parts.append({"type": "text", "text": text})
    return parts


class CalledFunction(Fields):
    """What a call was made of."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"parsed_arguments"})

    name: str
    arguments: str = Field("{}", description="A JSON object, as text.")

    @field_validator("arguments", mode="before")
    @classmethod
    def _object(cls, value: Any, info: ValidationInfo) -> str:
        """The object's text; where it is cut off, as an answer may be, what there is of it."""
        if isinstance(value, dict):
            return json.dumps(value)
        text = value or "{}"
        begun = read_json(text, limits_of(info), partial=True) if isinstance(text, str) else None
        if not isinstance(begun, dict):
            raise ValueError("must be a JSON object, as text")
        with suppress(ValueError):
            from_json(text)
            return str(text)
        return json.dumps(begun)


class CalledCustomTool(Fields):
    """The same of a custom tool."""

    name: str
    input: str


class MadeCall(Fields):
    """A call that the assistant made."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"index"})

    id: str = ""
    type: Literal["function", "custom"] = "function"
    function: CalledFunction | None = None
    custom: CalledCustomTool | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if getattr(self, self.type) is None:
            raise ValueError(f"a call of this type needs {self.type!r}")
        return self

    def for_template(self) -> dict[str, Any]:
        """The call as Hugging Face's chat templates know it."""
        if self.type == "custom":
            assert self.custom is not None, "it was looked at"
            function = {"name": self.custom.name, "arguments": arguments_of(self.custom.input)}
        else:
            assert self.function is not None, "it was looked at"
            function = self.function.model_dump()
        return {"id": self.id, "type": "function", "function": function}


class ChatMessage(Fields):
    """One message of a conversation."""

    other_names: ClassVar[Mapping[str, str]] = {
        "reasoning": "reasoning_content",
        "thinking": "reasoning_content",
    }
    without_effect: ClassVar[frozenset[str]] = frozenset(
        {
            "id", "refusal", "annotations", "audio", "prefix", "cache_control", "parsed",
            "reasoning_details", "thinking_blocks", "provider_specific_fields", "tool_name",
            "reasoning_signature", "status", "created", "timestamp",
        }
    )  # fmt: skip
    unsupported: ClassVar[Mapping[str, Matters]] = {"function_call": bool, "images": bool}

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, str]] | None = Field(None, validate_default=True)
    name: str | None = None
    reasoning_content: str | None = Field(None, description="Of the assistant.")
    tool_calls: list[MadeCall] = Field([], description="Of the assistant.")
    tool_call_id: str | None = Field(None, description="Whose result a tool's message is.")

    @model_validator(mode="before")
    @classmethod
    def _refusal_is_said(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("content") is None and value.get("refusal"):
            return {**value, "content": value["refusal"]}
        return value

    @field_validator("content", mode="before")
    @classmethod
    def _only_text(cls, value: Any, info: ValidationInfo) -> Any:
        role = info.data.get("role")
        if value is None and role in ("assistant", "tool"):
            return None if role == "assistant" else ""
        try:
            if isinstance(value, list):
                return _parts(value, of_assistant=role == "assistant")
        except ValueError:
            value = None
        if isinstance(value, str):
            return value
        raise ValueError(
            "must be a string or a list of text parts; other kinds of content are not supported"
        )

    @field_validator("tool_calls")
    @classmethod
    def _of_the_assistant(cls, value: list[MadeCall], info: ValidationInfo) -> list[MadeCall]:
        if value and info.data.get("role") != "assistant":
            raise ValueError("only messages of the assistant have it")
        return value

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, list):
            return "\n".join(part["text"] for part in self.content)
        return self.content or ""

    def for_template(self) -> dict[str, Any]:
        """The message as Hugging Face's chat templates know it."""
        message = self.model_dump(exclude_none=True)
        message["tool_calls"] = [call.for_template() for call in self.tool_calls]
        if self.role == "developer":
            message["role"] = "system"
        if self.role != "assistant":
            message.pop("reasoning_content", None)
        if self.role != "tool":
            message.pop("tool_call_id", None)
        if not self.tool_calls:
            message.pop("tool_calls")
        return message
