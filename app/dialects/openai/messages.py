"""The messages of a conversation, as clients send them."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from app.dialects.openai import json_text

NotUsed = Annotated[Any, Field(exclude=True, description="OpenAI's client sends it; not used.")]
"""What OpenAI's client adds to messages that it has read; they are often sent back as they are."""


class TextPart(BaseModel):
    """A piece of a message's content; only text is supported."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class CalledFunction(BaseModel):
    """What a call was made of."""

    model_config = ConfigDict(extra="forbid")

    name: str
    arguments: Annotated[str, Field(description="A JSON object, as text.")]
    parsed_arguments: NotUsed = None

    @field_validator("arguments")
    @classmethod
    def _object(cls, value: str) -> str:
        try:
            is_object = isinstance(json_text.parse(value), dict)
        except ValueError:
            is_object = False
        if not is_object:
            raise ValueError(
                f"must be a JSON object, as text of up to {json_text.MAX_CHARACTERS:,} characters"
            )
        return value


class MadeCall(BaseModel):
    """A call that the assistant made."""

    model_config = ConfigDict(extra="forbid")

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: NotUsed = None


class ChatMessage(BaseModel):
    """One message of a conversation. Fields that are null count as left out."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = Field(None, validate_default=True)
    name: str | None = None
    reasoning_content: str | None = Field(None, description="Of the assistant.")
    tool_calls: list[MadeCall] | None = Field(None, description="Of the assistant.")
    tool_call_id: str | None = Field(None, description="Whose result a tool's message is.")
    parsed: NotUsed = None
    annotations: NotUsed = None

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: each for name, each in value.items() if each is not None}

    @field_validator("content", mode="wrap")
    @classmethod
    def _only_text(
        cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        if value is None and info.data.get("role") == "assistant":
            return None
        try:
            if value is not None:
                return handler(value)
        except ValidationError:
            pass
        raise ValueError(
            "must be a string or a list of text parts; other kinds of content are not supported"
        )

    @field_validator("tool_calls", "reasoning_content")
    @classmethod
    def _of_the_assistant(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("role") != "assistant":
            raise ValueError("only messages of the assistant have it")
        return value

    @field_validator("tool_call_id")
    @classmethod
    def _of_a_tool(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("role") != "tool":
            raise ValueError("only messages of tools have it")
        return value

    def for_template(self) -> dict[str, Any]:
        """The message as Hugging Face's chat templates know it."""
        message = self.model_dump(exclude_none=True)
        if self.role == "developer":
            message["role"] = "system"
        if not self.tool_calls:
            message.pop("tool_calls", None)
        return message
