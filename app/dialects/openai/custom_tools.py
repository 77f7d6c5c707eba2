"""Custom tools, which take a text: models are shown functions of one text in their place."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic_core import from_json, to_json

from app.dialects.fields import Fields
from app.dialects.openai.functions import Function, Name

_INPUT = "input"
"""The one argument of such a function."""


class TextGrammar(Fields):
    """What the text must look like: a regular expression is kept to, a Lark grammar is told."""

    definition: str
    syntax: Literal["lark", "regex"]


class Custom(Fields):
    """What a custom tool is."""

    name: Name
    description: str | None = None

    @property
    def grammar(self) -> TextGrammar | None:
        """What its text must look like, if it may not be any."""
        return None

    def as_function(self) -> Function:
        """What the model is shown."""
        about, text = self.description or "", {"type": "string"}
        if self.grammar is not None:
            about += f"\n\nThe {_INPUT} follows this grammar:\n{self.grammar.definition}"
            if self.grammar.syntax == "regex":
                text["pattern"] = f"^(?:{self.grammar.definition})$"
        return Function(
            name=self.name,
            description=about.strip() or None,
            parameters={"type": "object", "properties": {_INPUT: text}, "required": [_INPUT]},
        )


def arguments_of(text: str) -> str:
    """The arguments of the function, as JSON."""
    return to_json({_INPUT: text}).decode()


def text_of(arguments: str) -> str:
    """The text in the function's arguments, which may be cut off."""
    return str(from_json(arguments or "{}", allow_partial="trailing-strings").get(_INPUT, ""))


class PlainText(Fields):
    """Any text."""

    type: Literal["text"]


class GrammarText(Fields):
    """Text that follows a grammar, in the chat API's words."""

    type: Literal["grammar"]
    grammar: TextGrammar


class ChatCustom(Custom):
    """A custom tool in the chat API's words."""

    format: Annotated[PlainText | GrammarText, Field(discriminator="type")] | None = None

    @property
    def grammar(self) -> TextGrammar | None:
        """See Custom."""
        return self.format.grammar if isinstance(self.format, GrammarText) else None
