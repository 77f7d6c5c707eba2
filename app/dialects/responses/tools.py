"""The tools of the Responses API: functions, and custom tools, which take a text."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from app.dialects.fields import Fields
from app.dialects.limited import AtMost
from app.dialects.openai import tools as chat
from app.dialects.openai.custom_tools import Custom, PlainText, TextGrammar
from app.dialects.openai.functions import Function, Name
from app.dialects.responses.items import in_namespace
from medusa.errors import InvalidRequestError


class FunctionTool(Fields):
    """A function. Calls always validate against its parameters, `strict` or not."""

    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema of an object.")
    strict: bool | None = None

    def as_function(self) -> Function:
        """What the model is shown."""
        fields = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return Function.model_validate(
            {name: value for name, value in fields.items() if value is not None}
        )


class GrammarText(TextGrammar):
    """Text that follows a grammar."""

    type: Literal["grammar"]


class CustomTool(Custom):
    """A tool that takes a text. The model sees a function with that one argument."""

    type: Literal["custom"]
    format: Annotated[PlainText | GrammarText, Field(discriminator="type")] | None = None

    @property
    def grammar(self) -> TextGrammar | None:
        """See Custom."""
        return self.format if isinstance(self.format, GrammarText) else None


class Namespace(Fields):
    """Tools whose names are told with the namespace's."""

    type: Literal["namespace"]
    name: str
    description: str | None = None
    tools: Annotated[
        list[Annotated[FunctionTool | CustomTool, Field(discriminator="type")]],
        AtMost("max_tools"),
    ]


class HostedTool(Fields):
    """A tool that OpenAI's servers would run. The model does not see it."""

    model_config = ConfigDict(extra="allow")

    type: str


def _kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return kind if kind in ("function", "custom", "namespace") else "hosted"


ResponseTool = Annotated[
    Annotated[FunctionTool, Tag("function")]
    | Annotated[CustomTool, Tag("custom")]
    | Annotated[Namespace, Tag("namespace")]
    | Annotated[HostedTool, Tag("hosted")],
    Discriminator(_kind),
]


class ChosenTool(Fields):
    """The tool to call."""

    type: Literal["function", "custom"]
    name: str


class AllowedTools(Fields):
    """The tools from which one may be chosen."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"] = "auto"
    tools: Annotated[list[ChosenTool], AtMost("max_tools")]


@dataclass(frozen=True)
class CallableTool:
    """A tool that the model is shown."""

    tool: FunctionTool | CustomTool
    namespace: str | None = None

    @property
    def shown(self) -> str:
        """Its name for the model."""
        return in_namespace(self.namespace, self.tool.name)

    def in_chat(self) -> chat.FunctionTool:
        """The function that the model is shown, in the words of chat completions."""
        function = self.tool.as_function().model_copy(update={"name": self.shown})
        return chat.FunctionTool(type="function", function=function)


class ToolsOfResponse(Fields):
    """The fields by which a body says what may be called."""

    tools: Annotated[list[ResponseTool], AtMost("max_tools")] = Field(default_factory=list)
    tool_choice: (
        Literal["none", "auto", "required"]
        | Annotated[ChosenTool | AllowedTools, Field(discriminator="type")]
    ) = "auto"
    parallel_tool_calls: bool = True

    @property
    def callable_tools(self) -> list[CallableTool]:
        """What the model may be shown."""
        found = []
        for tool in self.tools:
            match tool:
                case FunctionTool() | CustomTool():
                    found.append(CallableTool(tool))
                case Namespace(name=namespace, tools=tools):
                    found += [CallableTool(each, namespace) for each in tools]
        return found

    def as_in_chat(self) -> chat.ToolFields:
        """The same in the words of chat completions.

        Raises:
            InvalidRequestError: a tool may be called that there is not.
        """
        usable = self.callable_tools
        choice = self.tool_choice
        if isinstance(choice, AllowedTools):
            names = {tool.shown for tool in usable}
            allowed = {tool.name for tool in choice.tools}
            if missing := sorted(allowed - names):
                message = f"no tool has the name {missing[0]!r}"
                raise InvalidRequestError(message, field="tool_choice")
            usable = [tool for tool in usable if tool.shown in allowed]
            choice = choice.mode
        return chat.ToolFields(
            tools=[tool.in_chat() for tool in usable],
            tool_choice=_in_chat(choice) if usable or choice != "auto" else None,
            parallel_tool_calls=self.parallel_tool_calls,
        )


def _in_chat(
    choice: Literal["none", "auto", "required"] | ChosenTool,
) -> Literal["none", "auto", "required"] | chat.NamedFunction:
    if isinstance(choice, ChosenTool):
        return chat.NamedFunction(type="function", function=chat.ToolName(name=choice.name))
    return choice
