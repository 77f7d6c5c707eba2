"""Bodies of /v1/completions."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from app.schemas.common import MAX_CHOICES, MAX_LOGPROBS, GenerationBody, UsageBody, UsageIfSet

TokenIds = Annotated[list[int], Field(min_length=1)]
Texts = Annotated[list[str], Field(min_length=1)]
TokenLists = Annotated[list[TokenIds], Field(min_length=1)]
Prompt = str | TokenIds | Texts | TokenLists


class CompletionBody(GenerationBody):
    """A request to continue one or several prompts."""

    prompt: Prompt = Field(description="Text, token ids, or a list of either.")
    max_tokens: int | None = Field(16, ge=0)
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    best_of: int | None = Field(None, ge=1, le=MAX_CHOICES)
    suffix: None = Field(None, description="Not supported.")

    @field_validator("prompt", mode="wrap")
    @classmethod
    def _prompt_kinds(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(
                "must be a string, a list of strings, a list of token ids, "
                "or a list of token-id lists, none of them an empty list"
            ) from None

    @field_validator("suffix", mode="before")
    @classmethod
    def _no_suffix(cls, value: object) -> None:
        if value is not None:
            raise ValueError("filling in before a suffix is not supported")

    @model_validator(mode="after")
    def _choices_are_consistent(self) -> Self:
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError("best_of must be at least n")
        if self.stream and self.best_of is not None and self.best_of > self.n:
            raise ValueError("best_of above n cannot be streamed")
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens 0 needs echo to be true")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, one or several, in the order given."""
        prompt: Any = self.prompt
        if isinstance(prompt, str) or isinstance(prompt[0], int):
            return [prompt]
        return list(prompt)


class CompletionLogprobs(BaseModel):
    """Log probabilities in the format of the completions API."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]

    def __add__(self, other: "CompletionLogprobs") -> "CompletionLogprobs":
        """These tokens and then the other's."""
        tops = None
        if self.top_logprobs is not None and other.top_logprobs is not None:
            tops = self.top_logprobs + other.top_logprobs
        return CompletionLogprobs(
            tokens=self.tokens + other.tokens,
            token_logprobs=self.token_logprobs + other.token_logprobs,
            top_logprobs=tops,
            text_offset=self.text_offset + other.text_offset,
        )


class CompletionChoice(BaseModel):
    """One answer, or in a stream what was added to it."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None


class Completion(UsageIfSet):
    """The response, whole or as a chunk."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageBody | None = None
