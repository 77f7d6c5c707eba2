"""What clients send to have a response made."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator
from pydantic_core import to_json

from app.dialects.bodies import TextOr
from app.dialects.conversation import Question, reasoning_variables
from app.dialects.fields import Fields, Prioritised
from app.dialects.limited import TopLogprobs
from app.dialects.openai.formats import Schema
from app.dialects.openai.sampling_fields import SamplingFields
from app.dialects.responses.errors import UnknownPreviousError, UnknownResponseError
from app.dialects.responses.items import (
    InputItem,
    ItemReference,
    KeptItem,
    MessageItem,
    messages_of,
    read_kept,
)
from app.dialects.responses.memory import Items, ResponseMemory
from app.dialects.responses.tools import ToolsOfResponse
from medusa.errors import InvalidRequestError
from medusa.sampling.grammars.spec import GrammarSpec


class ReasoningSettings(Fields):
    """How the model is to think."""

    effort: str | None = Field(default=None, description="Handed to the chat template.")
    summary: str | None = Field(
        default=None, description="If it is given, reasoning is told as its own summary."
    )
    generate_summary: str | None = Field(default=None, description="Older name of summary.")

    @property
    def summarised(self) -> bool:
        """Whether summaries are asked for."""
        return (self.summary or self.generate_summary) is not None


class PlainFormat(Fields):
    """Any text, or any JSON object."""

    type: Literal["text", "json_object"] = "text"

    def spec(self) -> GrammarSpec | None:
        """The grammar."""
        return GrammarSpec.json_object() if self.type == "json_object" else None


class SchemaFormat(Fields):
    """JSON that a schema describes. It is always kept to, `strict` or not."""

    type: Literal["json_schema"]
    name: str = "response"
    description: str | None = None
    schema_: Schema = Field(True, alias="schema")
    strict: bool | None = None

    def spec(self) -> GrammarSpec:
        """The grammar."""
        return GrammarSpec.json_schema(self.schema_)


class TextSettings(Fields):
    """What the text is to look like."""

    format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] = Field(
        default_factory=PlainFormat
    )
    verbosity: str | None = Field(default=None, description="Accepted; not used.")


class ConversationBody(ToolsOfResponse):
    """What a model reads."""

    field_names: ClassVar[Mapping[str, str]] = {
        "prompt": "input",
        "messages": "input",
        "max_tokens": "max_output_tokens",
        "logprobs": "top_logprobs",
    }

    model: str = Field("default", description="The served model's name, or `default`.")
    input: TextOr[InputItem]
    instructions: str | None = Field(
        None, description="What the system says first; that of a previous response is not read."
    )
    previous_response_id: str | None = Field(None, description="To go on with, if it is kept.")
    conversation: None = Field(None, description="Not supported; use previous_response_id.")
    prompt: None = Field(None, description="Not supported: there are no stored prompts.")
    reasoning: ReasoningSettings = Field(default_factory=ReasoningSettings)
    text: TextSettings = Field(default_factory=TextSettings)
    truncation: Literal["auto", "disabled"] = Field(
        "disabled", description="auto: the oldest turns are left out if all do not fit."
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="Further variables of the chat template, such as enable_thinking."
    )

    @field_validator("input", mode="after")
    @classmethod
    def _not_nothing(cls, value: Any) -> Any:
        if value == []:
            raise ValueError("there must be an item at least")
        return value

    async def read_input(self, memory: ResponseMemory) -> "Input":
        """The conversation, with what is kept of it.

        Raises:
            InvalidRequestError: something that it refers to is not kept.
        """
        return await asyncio.to_thread(self._read_input, memory)

    def _read_input(self, memory: ResponseMemory) -> "Input":
        earlier: Items = ()
        if self.previous_response_id is not None:
            try:
                previous = memory.get(self.previous_response_id)
            except UnknownResponseError as error:
                raise UnknownPreviousError(str(error), field="previous_response_id") from error
            earlier = (*previous.input, *previous.output)
        if isinstance(self.input, str):
            said: list[KeptItem] = [MessageItem(role="user", content=self.input)]
        else:
            said = [_found(item, memory) for item in self.input]
        kept = [(item.id, to_json(item.listed())) for item in said]
        items = [*read_kept(json for _, json in earlier), *said]
        return Input(items, (*earlier, *kept))

    def question(self, items: Sequence[KeptItem]) -> Question:
        """What it asks.

        Args:
            items: the conversation.

        Raises:
            InvalidRequestError: fields contradict each other.
        """
        spec = self.text.format.spec()
        return Question(
            messages_of(self.instructions, items),
            self.as_in_chat(),
            None if spec is None else ("text.format", spec),
            (self.chat_template_kwargs or {}) | reasoning_variables(self.reasoning.effort),
        )


def _found(item: Any, memory: ResponseMemory) -> KeptItem:
    if not isinstance(item, ItemReference):
        kept: KeptItem = item
        return kept
    json = memory.item(item.id)
    if json is None:
        raise InvalidRequestError(f"no item with the id {item.id!r} is kept", field="input")
    return read_kept([json])[0]


@dataclass(frozen=True)
class Input:
    """The conversation that a body asks to go on with, and how it is kept."""

    items: Sequence[KeptItem]
    kept: Items


class ResponseBody(SamplingFields, Prioritised, ConversationBody):
    """A request to make a response."""

    stream: bool = False
    return_progress: bool = Field(False, description="Tell in a stream how the input is read.")
    timings_per_token: bool = Field(False, description="Tell in each event what it took so far.")
    store: bool = Field(True, description="Whether it is kept, to go on with.")
    background: Literal[False] = Field(False, description="True is not supported.")
    max_output_tokens: int | None = Field(None, ge=1)
    max_tool_calls: int | None = Field(None, description="Accepted; no tools are run here.")
    top_logprobs: TopLogprobs | None = None
    include: list[str] = Field(
        default_factory=list,
        description="message.output_text.logprobs; other values are accepted, and not used.",
    )
    metadata: dict[str, str] = Field(default_factory=dict, max_length=16)
    user: str | None = Field(None, description="Accepted for compatibility; not used.")
    safety_identifier: str | None = Field(None, description="Accepted; not used.")
    prompt_cache_key: str | None = Field(None, description="Accepted; not used.")
    service_tier: str | None = Field(None, description="Accepted; not used.")

    @property
    def count(self) -> int:
        """Generations it asks for."""
        return 1

    @property
    def logprobs(self) -> int | None:
        """How many alternatives are told of each token; None: not even its own probability."""
        asked = "message.output_text.logprobs" in self.include
        return (self.top_logprobs or 0) if asked or self.top_logprobs else None
