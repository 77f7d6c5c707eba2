"""What the bodies of Ollama's API have in common."""

import time
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, PrivateAttr, field_validator

from app.dialects.conversation import reasoning_variables
from app.dialects.fields import Fields, Prioritised
from app.dialects.limited import AtMost, TopLogprobs, Word
from app.dialects.openai.sampling_fields import SamplingFields
from medusa.sampling.grammars.spec import GrammarSpec

_LATEST = ":latest"

ModelName = Annotated[
    str,
    AfterValidator(lambda name: name.removesuffix(_LATEST)),
    Field(description="The served model's name, with or without `:latest`, or `default`."),
]


class Options(SamplingFields, Fields):
    """How an answer is made. What sets up a model, such as num_ctx, was said at its start."""

    num_predict: int | None = Field(None, description="Most tokens of the answer; below 1: any.")
    stop: Annotated[list[Word], AtMost("max_stops")] = Field(default_factory=list)

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @property
    def max_tokens(self) -> int | None:
        """Most tokens to generate; None: up to the context limit."""
        return self.num_predict if self.num_predict is not None and self.num_predict > 0 else None


class OllamaBody(Fields):
    """A request of any kind."""

    model: ModelName = "default"
    options: Options = Field(default_factory=lambda: Options.model_validate({}))
    keep_alive: Any = Field(None, description="Accepted; the model stays loaded.")

    _began: int = PrivateAttr(default_factory=time.perf_counter_ns)

    def elapsed(self) -> int:
        """Nanoseconds since it was read."""
        return time.perf_counter_ns() - self._began


class AnswerBody(Prioritised, OllamaBody):
    """A request for an answer."""

    field_names: ClassVar[Mapping[str, str]] = {
        "max_tokens": "options.num_predict",
        "logit_bias": "options.logit_bias",
    }

    stream: bool = True
    format: Literal["", "json"] | dict[str, Any] = Field(
        "", description="json, or a JSON schema, to which the answer then keeps."
    )
    think: bool | str | None = Field(None, description="Handed to the chat template.")
    logprobs: bool = False
    top_logprobs: TopLogprobs = 0

    @field_validator("format", mode="plain", json_schema_input_type=str | dict[str, Any])
    @classmethod
    def _known_format(cls, value: Any) -> Any:
        if value in ("", "json") or isinstance(value, dict):
            return value
        raise ValueError("must be json or a JSON schema")

    @property
    def count(self) -> int:
        """Generations it asks for."""
        return 1

    @property
    def content(self) -> tuple[str, GrammarSpec] | None:
        """What the answer must look like."""
        match self.format:
            case "":
                return None
            case "json":
                return "format", GrammarSpec.json_object()
            case schema:
                return "format", GrammarSpec.json_schema(closed(schema))

    @property
    def variables(self) -> dict[str, Any]:
        """Further variables of the chat template."""
        if isinstance(self.think, bool):
            return {"enable_thinking": self.think}
        return reasoning_variables(self.think)

    @property
    def n_logprobs(self) -> int | None:
        """How many alternatives are told of each token; None: not even its own probability."""
        return self.top_logprobs if self.logprobs else None


def closed(schema: Any) -> Any:
    """The schema, its objects without properties that it does not name, unless it says otherwise.

    As in Ollama, whose grammars come from llama.cpp's json-schema-to-grammar.
    """
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(schema[name]) for name in _SCHEMAS & schema.keys()}
    for name in _MAPS_OF_SCHEMAS & schema.keys():
        if isinstance(schema[name], dict):
            inner[name] = {key: closed(each) for key, each in schema[name].items()}
    is_whole = "properties" in schema and not _COMBINING & schema.keys()
    return ({"additionalProperties": False} if is_whole else {}) | schema | inner


_SCHEMAS = {"items", "anyOf", "oneOf", "prefixItems"}
_MAPS_OF_SCHEMAS = {"properties", "$defs", "definitions"}
_COMBINING = {"$ref", "allOf", "anyOf", "oneOf"}


def no_images(value: Any) -> None:
    """Refuse pictures, which no model here can see.

    Raises:
        ValueError: there are some.
    """
    if value:
        raise ValueError("images are not supported; only text is read")
