"""Functions, as models are shown them."""

from typing import Annotated, Any

from pydantic import Field

from app.dialects.fields import Fields
from medusa.sampling.grammars.spec import GrammarSpec

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]

_COMBINING = {"$ref", "allOf", "anyOf", "oneOf"}


class Function(Fields):
    """What a tool is. Calls always validate against its parameters, `strict` or not."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] = Field(
        default_factory=lambda: {"type": "object", "properties": {}},
        description="A JSON schema of an object; properties that it does not name are not given.",
    )
    strict: bool | None = None

    def arguments(self) -> GrammarSpec:
        """The grammar of a call's arguments."""
        schema = {"type": "object"} | self.parameters
        if "properties" in schema and not _COMBINING & schema.keys():
            schema = {"additionalProperties": False} | schema
        return GrammarSpec.json_schema(schema)

    def for_template(self) -> dict[str, Any]:
        """The function as a tool that Hugging Face's chat templates know."""
        function = self.model_dump(exclude={"strict"}, exclude_none=True)
        return {"type": "function", "function": function}
