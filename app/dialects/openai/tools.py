"""Tools that an answer may call, and the grammar that this gives it."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.backend import Backend
from app.dialects.fields import Fields
from app.dialects.limited import AtMost
from app.dialects.openai.custom_tools import ChatCustom
from app.dialects.openai.functions import Function
from medusa.errors import InvalidRequestError
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.grammars.answers import Calls, Thought, answer_grammar
from medusa.sampling.grammars.spec import GrammarSpec
from medusa.text.answers import AnswerForm


class FunctionTool(Fields):
    """A function."""

    type: Literal["function"]
    function: Function


class CustomTool(Fields):
    """A custom tool."""

    type: Literal["custom"]
    custom: ChatCustom

    @property
    def function(self) -> Function:
        """What the model is shown."""
        return self.custom.as_function()


Tool = Annotated[FunctionTool | CustomTool, Field(discriminator="type")]


class ToolName(Fields):
    """A tool by its name."""

    name: str


class NamedFunction(Fields):
    """The function to call."""

    type: Literal["function"]
    function: ToolName

    @property
    def name(self) -> str:
        """Its name."""
        return self.function.name


class NamedCustomTool(Fields):
    """The custom tool to call."""

    type: Literal["custom"]
    custom: ToolName

    @property
    def name(self) -> str:
        """Its name."""
        return self.custom.name


NamedTool = NamedFunction | NamedCustomTool


class ToolFields(BaseModel):
    """The fields by which a body says what may be called."""

    tools: Annotated[list[Tool], AtMost("max_tools")] | None = None
    tool_choice: (
        Literal["none", "auto", "required"]
        | Annotated[NamedTool, Field(discriminator="type")]
        | None
    ) = Field(None, description="auto where there are tools; with none the model sees none.")
    parallel_tool_calls: bool | None = Field(
        None, description="Whether an answer may be several calls; true unless it is said."
    )

    def visible_tools(self) -> Sequence[Tool]:
        """The tools that the model is shown.

        Raises:
            InvalidRequestError: two have the same name, or the choice is none of them.
        """
        tools = self.tools or []
        names = [tool.function.name for tool in tools]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidRequestError(f"two tools have the name {twice!r}", field="tools")
        if self.tool_choice == "none":
            return []
        if self.tool_choice in (None, "auto"):
            return tools
        if not tools:
            raise InvalidRequestError("tool_choice needs tools", field="tool_choice")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.name not in names:
            name = self.tool_choice.name
            raise InvalidRequestError(f"no tool has the name {name!r}", field="tool_choice")
        return tools

    @property
    def custom_names(self) -> frozenset[str]:
        """Names of custom tools."""
        custom = (tool for tool in self.tools or () if isinstance(tool, CustomTool))
        return frozenset(tool.custom.name for tool in custom)

    def calls(self, form: AnswerForm) -> Calls | None:
        """What may be called in an answer of this form."""
        if form.calls is None:
            return None
        functions = [tool.function for tool in self.visible_tools()]
        choice = self.tool_choice
        if isinstance(choice, NamedTool):
            functions = [each for each in functions if each.name == choice.name]
        return Calls(
            layout=form.calls,
            arguments={each.name: each.arguments() for each in functions},
            required=choice == "required" or isinstance(choice, NamedTool),
            parallel=self.parallel_tool_calls is not False and not isinstance(choice, NamedTool),
            texts=form.texts,
        )


async def answer_constraint(
    backend: Backend,
    form: AnswerForm,
    calls: Calls | None,
    content: tuple[str, GrammarSpec] | None,
) -> Callable[[], TokenConstraint] | None:
    """What an answer must look like, ready to be kept to; None: it need not.

    Args:
        backend: compiles it.
        form: what the answer consists of.
        calls: what may be called.
        content: the field that says what an answer without calls must look like, and how.

    Raises:
        InvalidRequestError: the field, or a tool's parameters, are wrong, not supported or too
            complex, or the two cannot be told from each other.
    """
    field, spec = content or (None, None)
    if calls is not None and spec is not None and calls.layout.marker.startswith("{"):
        raise InvalidRequestError(
            f"{field} and tools cannot be asked for together: this model's calls look like JSON",
            field=field,
        )
    thought = None
    if form.reasoning is not None:
        marks = form.reasoning
        opening = None if form.in_reasoning else marks.opening
        thought = Thought(opening, marks.closing, marks.next, marks.content)
    whole = answer_grammar(thought, calls, spec)
    if whole is None:
        return None
    try:
        return await backend.constraint(whole)
    except InvalidRequestError as error:
        await _blame(backend, calls, content)
        error.field = field or "tools"
        raise


async def _blame(
    backend: Backend, calls: Calls | None, content: tuple[str, GrammarSpec] | None
) -> None:
    """Raise the error of the part that is at fault, if one alone is."""
    if content is not None:
        field, spec = content
        await _compiled(backend, spec, field, "")
    for name, spec in calls.arguments.items() if calls is not None else ():
        await _compiled(backend, spec, "tools", f"the parameters of {name!r}: ")


async def _compiled(backend: Backend, spec: GrammarSpec, field: str, words: str) -> None:
    try:
        await backend.constraint(spec)
    except InvalidRequestError as error:
        error.args, error.field = (f"{words}{error}",), field
        raise
