"""What the tests ask for. All of it has an end, so that a small model reaches it."""

from typing import Literal

from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, Field

DESCRIBE = "Describe a zoo."
HOW_WARM = "How warm is it in Ulm?"
TO_DESCRIBE: list[ChatCompletionMessageParam] = [{"role": "user", "content": DESCRIBE}]
TO_TELL: list[ChatCompletionMessageParam] = [{"role": "user", "content": HOW_WARM}]


class Animal(BaseModel):
    kind: Literal["cat", "dog"]
    legs: int = Field(ge=0, le=8)


class Zoo(BaseModel):
    """A zoo."""

    city: str = Field(max_length=10)
    animals: list[Animal] = Field(max_length=2)


class Weather(BaseModel):
    """The weather in a city."""

    city: str = Field(max_length=12)
    days: int = Field(ge=1, le=7)
