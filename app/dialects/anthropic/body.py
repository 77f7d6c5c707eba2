"""What clients send to have a conversation answered, or its tokens counted."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from app.dialects.anthropic.blocks import InputMessage, TextBlock, messages_of
from app.dialects.bodies import TextOr
from app.dialects.conversation import Question, reasoning_variables
from app.dialects.fields import Fields, Prioritised
from app.dialects.limited import AtMost, Word
from app.dialects.openai.formats import Schema
from app.dialects.openai.functions import Function, Name
from app.dialects.openai.sampling_fields import SamplingFields
from app.dialects.openai.tools import FunctionTool, NamedFunction, Tool, ToolFields, ToolName
from medusa.sampling.grammars.spec import GrammarSpec


class ClientTool(Fields):
    """A tool of the client's. Calls always validate against its schema."""

    type: Literal["custom"] = "custom"
    name: Name
    description: str | None = None
    input_schema: dict[str, Any] = Field(description="A JSON schema of an object.")

    def in_chat(self) -> FunctionTool:
        """The same in the words of chat completions."""
        function = Function(
            name=self.name, description=self.description, parameters=self.input_schema, strict=None
        )
        return FunctionTool(type="function", function=function)


class AnthropicTool(Fields):
    """A tool that Anthropic's servers run or whose schema their models know: it is not shown."""

    type: str
    name: str = ""


AnyTool = Annotated[
    Annotated[ClientTool, Tag("client")] | Annotated[AnthropicTool, Tag("anthropic")],
    Discriminator(lambda value: "client" if _is_client(value) else "anthropic"),
]


def _is_client(value: Any) -> bool:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return kind is None or kind == "custom"


class ToolChoice(Fields):
    """What the answer may or must call."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = Field(None, description="With `tool`: which.")
    disable_parallel_tool_use: bool = False


class Thinking(Fields):
    """Whether the model is to think, as far as its chat template can tell it."""

    type: str
    budget_tokens: int | None = Field(None, description="Accepted; not used.")

    def variables(self) -> dict[str, Any]:
        """Variables that tell chat templates."""
        known = {"enabled": True, "disabled": False}
        return {"enable_thinking": known[self.type]} if self.type in known else {}


class OutputFormat(Fields):
    """JSON that a schema describes."""

    type: Literal["json_schema"]
    schema_: Schema = Field(alias="schema")


class OutputConfig(Fields):
    """What the answer must look like, and how much effort it is worth."""

    effort: str | None = Field(default=None, description="Handed to the chat template.")
    format: OutputFormat | None = None


class ConversationBody(Fields):
    """What a model reads."""

    field_names: ClassVar[Mapping[str, str]] = {"prompt": "messages", "stop": "stop_sequences"}

    model: str = Field("default", description="The served model's name, or `default`.")
    system: TextOr[TextBlock] = ""
    messages: list[InputMessage] = Field(min_length=1, fail_fast=True)
    tools: Annotated[list[AnyTool], AtMost("max_tools")] = Field(default_factory=list)
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig = Field(default_factory=lambda: OutputConfig())

    def question(self) -> Question:
        """What it asks.

        Raises:
            InvalidRequestError: fields contradict each other.
        """
        form = self.output_config.format
        variables = reasoning_variables(self.output_config.effort)
        return Question(
            messages_of(self.system, self.messages),
            self._tools(),
            None
            if form is None
            else ("output_config.format", GrammarSpec.json_schema(form.schema_)),
            variables | (self.thinking.variables() if self.thinking else {}),
        )

    def _tools(self) -> ToolFields:
        """The tools in the words of chat completions."""
        tools: list[Tool] = [tool.in_chat() for tool in self.tools if isinstance(tool, ClientTool)]
        choice: Literal["none", "required"] | NamedFunction | None = None
        asked = self.tool_choice
        match asked:
            case ToolChoice(type="none"):
                choice = "none"
            case ToolChoice(type="any"):
                choice = "required"
            case ToolChoice(type="tool", name=name):
                choice = NamedFunction(type="function", function=ToolName(name=name or ""))
        parallel = asked is None or not asked.disable_parallel_tool_use
        return ToolFields(tools=tools, tool_choice=choice, parallel_tool_calls=parallel)


class MessagesBody(SamplingFields, Prioritised, ConversationBody):
    """A request to answer a conversation."""

    max_tokens: int = Field(ge=1)
    stream: bool = False
    stop_sequences: Annotated[list[Word], AtMost("max_stops")] = Field(default_factory=list)

    @property
    def count(self) -> int:
        """Generations it asks for."""
        return 1
