"""What an answer must look like: the fields of OpenAI, llama-server and vLLM for it."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo

from app.dialects.fields import Fields, Matters
from app.dialects.limited import limits_of
from app.door.bounded_json import read_json
from medusa.errors import InvalidRequestError
from medusa.sampling.grammars.spec import GrammarSpec


def _parsed(value: Any, info: ValidationInfo) -> Any:
    """A schema that was sent as its JSON text."""
    return read_json(value, limits_of(info)) if isinstance(value, str) else value


Schema = dict[str, Any] | bool
ParsedSchema = Annotated[Schema, BeforeValidator(_parsed)]
Choices = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


class NamedSchema(Fields):
    """OpenAI's json_schema. It is always kept to, `strict` or not."""

    name: str = "response"
    description: str | None = None
    schema_: Schema = Field(True, alias="schema")
    strict: bool | None = None


class TextFormat(Fields):
    """Any text."""

    type: Literal["text"]

    def spec(self) -> GrammarSpec | None:
        """The grammar."""
        return None


class ObjectFormat(Fields):
    """A JSON object, llama-server's way with a schema."""

    type: Literal["json_object"]
    schema_: Schema | None = Field(None, alias="schema")

    def spec(self) -> GrammarSpec:
        """The grammar."""
        if self.schema_ is None:
            return GrammarSpec.json_object()
        return GrammarSpec.json_schema(self.schema_)


class SchemaFormat(Fields):
    """JSON that a schema describes."""

    type: Literal["json_schema"]
    json_schema: NamedSchema

    def spec(self) -> GrammarSpec:
        """The grammar."""
        return GrammarSpec.json_schema(self.json_schema.schema_)


ResponseFormat = Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]


class StructuredOutputs(Fields):
    """vLLM's structured_outputs: exactly one of them."""

    unsupported: ClassVar[Mapping[str, Matters]] = {"structural_tag": bool}

    json_: ParsedSchema | None = Field(None, alias="json")
    regex: str | None = None
    choice: Choices | None = None
    grammar: str | None = None
    json_object: bool | None = None

    def specs(self) -> dict[str, GrammarSpec]:
        """What is asked for, by field."""
        return _specs(self.json_, self.regex, self.choice, self.grammar) | (
            {"json_object": GrammarSpec.json_object()} if self.json_object else {}
        )


class FormatFields(BaseModel):
    """The fields by which a body says what its answer must look like; at most one counts."""

    response_format: ResponseFormat | None = None
    json_schema: ParsedSchema | None = Field(None, description="As llama-server has it.")
    grammar: str | None = Field(None, description="GBNF, as llama-server has it, or Lark.")
    structured_outputs: StructuredOutputs | None = Field(None, description="As vLLM has it.")
    guided_json: ParsedSchema | None = Field(None, description="Older name in vLLM.")
    guided_regex: str | None = None
    guided_choice: Choices | None = None
    guided_grammar: str | None = None

    def grammar_spec(self) -> tuple[str, GrammarSpec] | None:
        """The grammar that the answer must follow, if there is one, and the field that says so.

        Raises:
            InvalidRequestError: two fields ask for one.
        """
        found: dict[str, GrammarSpec] = {}
        if self.response_format is not None:
            spec = self.response_format.spec()
            found |= {"response_format": spec} if spec is not None else {}
        if self.json_schema is not None:
            found["json_schema"] = GrammarSpec.json_schema(self.json_schema)
        if self.grammar:
            found["grammar"] = GrammarSpec.grammar(self.grammar)
        if self.structured_outputs is not None:
            specs = self.structured_outputs.specs()
            found |= {f"structured_outputs.{name}": spec for name, spec in specs.items()}
        guided = _specs(
            self.guided_json, self.guided_regex, self.guided_choice, self.guided_grammar
        )
        found |= {f"guided_{name}": spec for name, spec in guided.items()}
        if len(found) > 1:
            names = list(found)
            raise InvalidRequestError(
                f"{' and '.join(names)} cannot be asked for together", field=names[1]
            )
        return next(iter(found.items()), None)


def _specs(
    schema: Schema | None,
    regex: str | None,
    choices: list[str] | None,
    grammar: str | None,
) -> dict[str, GrammarSpec]:
    """vLLM's four kinds, by the ends of their names."""
    specs = {}
    if schema is not None:
        specs["json"] = GrammarSpec.json_schema(schema)
    if regex is not None:
        specs["regex"] = GrammarSpec.regex(regex)
    if choices is not None:
        specs["choice"] = GrammarSpec.choice(choices)
    if grammar is not None:
        specs["grammar"] = GrammarSpec.grammar(grammar)
    return specs
