"""How tokens are chosen: the fields of OpenAI, llama-server and vLLM for it."""

import math
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, Field, PlainValidator, model_validator

from app.backend import Backend
from medusa.sampling.params import SamplingParams

MAX_BIASES = 10_000
_MAX_BIAS = 100.0

_RANDOM_SEED = -1
_SEEDS = 2**64

LLAMA_SERVER_WINDOW = 64
"""Tokens that repeat_penalty looks back at, where nothing else is said."""


def _biases(value: Any) -> dict[int | str, float] | None:
    """Biases by token id or text, of a mapping or a list of pairs; -inf where they say false."""
    if value is None:
        return None
    pairs = value.items() if isinstance(value, dict) else value
    if not isinstance(value, dict | list) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    ):
        raise ValueError("must map tokens to biases, or be a list of [token, bias]")
    if len(value) > MAX_BIASES:
        raise ValueError(f"has {len(value):,} biases; at most {MAX_BIASES:,} are taken")
    return {_token(token): _bias(bias) for token, bias in pairs}


def _token(token: Any) -> int | str:
    if isinstance(token, str) and token.isascii() and token.isdigit():
        return int(token[:20])
    if isinstance(token, bool) or not isinstance(token, int | str) or token == "":
        raise ValueError("a token is an id or a text")
    return token


def _bias(bias: Any) -> float:
    if bias is False:
        return -math.inf
    if isinstance(bias, bool) or not isinstance(bias, int | float) or not abs(bias) <= _MAX_BIAS:
        raise ValueError("a bias is a number from -100 to 100, or false for never")
    return float(bias)


Biases = Annotated[
    dict[int | str, float] | None,
    PlainValidator(
        _biases, json_schema_input_type=dict[str, float | bool] | list[list[Any]] | None
    ),
]


class SamplingFields(BaseModel):
    """The fields by which a body says how its tokens are chosen; null, or none, is the default.

    The defaults are the server's (see `llama-medusa serve --help`).
    """

    temperature: float | None = Field(None, ge=0, le=1e6, description="0 is greedy decoding.")
    top_p: float | None = Field(None, ge=0, le=1, description="1: off. 0: the likeliest only.")
    top_k: int | None = Field(None, ge=-1, description="0 or -1: off.")
    min_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, ge=0.01, le=10, description="As vLLM has it.")
    repeat_penalty: float | None = Field(
        None,
        ge=0.01,
        le=10,
        description="As llama-server has it: repetition_penalty, looking back repeat_last_n.",
    )
    repeat_last_n: int | None = Field(
        None,
        ge=-1,
        description="Tokens that penalties look back at; -1: all. By default 64 with "
        "repeat_penalty, all without.",
    )
    logit_bias: Biases = Field(
        None, description="Added to the logits of tokens, by id or text; false: never this token."
    )
    seed: int | None = Field(None, ge=-(2**63), lt=_SEEDS, description="-1: a random one.")
    ignore_eos: bool | None = Field(None, description="Go on where the model would end.")

    @model_validator(mode="after")
    def _one_repetition_penalty(self) -> "SamplingFields":
        named = {self.repetition_penalty, self.repeat_penalty} - {None}
        if len(named) > 1:
            raise ValueError("repeat_penalty and repetition_penalty contradict each other")
        return self

    async def sampling(self, backend: Backend) -> SamplingParams:
        """How the tokens of a backend are chosen.

        Raises:
            InvalidRequestError: a text is too long.
        """
        default = backend.sampling
        given: dict[str, Any] = {
            "temperature": self.temperature,
            "top_k": None if self.top_k is None else max(0, self.top_k),
            "top_p": self.top_p,
            "min_p": self.min_p,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "repetition_penalty": self._repetition_penalty,
            "penalty_last_n": self._penalty_last_n(default.penalty_last_n),
            "logit_bias": await self._logit_bias(backend),
        }
        given = {name: value for name, value in given.items() if value is not None}
        seed = default.seed if self.seed is None else _seed(self.seed)
        return replace(default, **given, seed=seed)

    @property
    def _repetition_penalty(self) -> float | None:
        return self.repeat_penalty if self.repetition_penalty is None else self.repetition_penalty

    def _penalty_last_n(self, default: int) -> int | None:
        if self.repeat_last_n is None and self.repetition_penalty is None and default < 0:
            return None if self.repeat_penalty is None else LLAMA_SERVER_WINDOW
        return self.repeat_last_n

    async def _logit_bias(self, backend: Backend) -> dict[int, float] | None:
        """By token; a text's bias is that of each of its tokens."""
        if self.logit_bias is None:
            return None
        texts = [token for token in self.logit_bias if isinstance(token, str)]
        tokens = await backend.tokenize(texts, add_special=False, parse_special=True)
        of_text = dict(zip(texts, tokens, strict=True))
        return {
            token: bias
            for named, bias in self.logit_bias.items()
            for token in (of_text[named] if isinstance(named, str) else [named])
        }


def _seed(seed: int) -> int | None:
    """What the random numbers start from; negative seeds as two's complement."""
    return None if seed == _RANDOM_SEED else seed % _SEEDS
