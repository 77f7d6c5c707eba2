"""How tokens are chosen: the fields of OpenAI, llama-server and vLLM for it."""

import math
from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, PlainValidator, model_validator

from app.backend import Backend
from app.dialects.limited import AtMost, Word
from medusa.sampling.breakers import DEFAULT_BREAKERS
from medusa.sampling.order import parse_stages
from medusa.sampling.params import Dry, SamplingParams, Stage

_MAX_BIAS = 100.0
_LARGE = 1e6  # a number so large that larger ones mean the same

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


def _stages(value: Any) -> tuple[Stage, ...] | None:
    if value is None:
        return None
    if not isinstance(value, str) and not (
        isinstance(value, list) and all(isinstance(name, str) for name in value)
    ):
        raise ValueError("must be a list of names, or a string of letters")
    return parse_stages(value)


_SentBiases = dict[str, float | bool] | list[list[Any]] | None
Biases = Annotated[
    dict[int | str, float] | None,
    PlainValidator(_biases, json_schema_input_type=_SentBiases),
    AtMost("max_biases"),
]
Stages = Annotated[
    tuple[Stage, ...] | None,
    PlainValidator(_stages, json_schema_input_type=list[str] | str | None),
]
TokenIds = list[Annotated[int, Field(ge=0, lt=2**31)]]


class SamplingFields(BaseModel):
    """The fields by which a body says how its tokens are chosen; null, or none, is the default.

    The defaults are the server's (see `llama-medusa serve --help`).
    """

    temperature: float | None = Field(None, ge=0, le=_LARGE, description="0: greedy decoding.")
    dynatemp_range: float | None = Field(None, ge=0, le=_LARGE)
    dynatemp_exponent: float | None = Field(None, ge=0, le=100)
    top_k: int | None = Field(None, ge=-1, description="0 or -1: off.")
    top_p: float | None = Field(None, ge=0, le=1, description="1: off. 0: the likeliest only.")
    min_p: float | None = Field(None, ge=0, le=1)
    typical_p: float | None = Field(None, ge=0, le=1, description="1: off.")
    top_n_sigma: float | None = Field(None, ge=-1, le=_LARGE, description="Up to 0: off.")
    xtc_probability: float | None = Field(None, ge=0, le=1)
    xtc_threshold: float | None = Field(None, ge=0, le=1)
    min_keep: int | None = Field(None, ge=0, description="Tokens that filters leave in any case.")
    mirostat: int | None = Field(None, ge=0, le=2, description="In place of the filters.")
    mirostat_tau: float | None = Field(None, ge=0, le=1000)
    mirostat_eta: float | None = Field(None, ge=0, le=1000)
    samplers: Stages = Field(None, description="Their order; those left out are not used.")
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
    dry_multiplier: float | None = Field(None, ge=0, le=_LARGE, description="0: off.")
    dry_base: float | None = Field(None, ge=1, le=_LARGE)
    dry_allowed_length: int | None = Field(None, ge=0)
    dry_penalty_last_n: int | None = Field(None, ge=-1, description="-1: all tokens.")
    dry_sequence_breakers: Annotated[list[Word], AtMost("max_breakers")] | None = None
    logit_bias: Biases = Field(
        None, description="Added to the logits of tokens, by id or text; false: never this token."
    )
    allowed_token_ids: TokenIds | None = Field(None, min_length=1, description="No others come.")
    bad_words: Annotated[list[Word], AtMost("max_bad_words")] | None = Field(
        None, description="Texts that must not be written."
    )
    min_tokens: int | None = Field(None, ge=0, description="No end before so many.")
    stop_token_ids: TokenIds | None = Field(None, description="Tokens that end the answer.")
    ignore_eos: bool | None = Field(None, description="Go on where the model would end.")
    seed: int | None = Field(None, ge=-(2**63), lt=_SEEDS, description="-1: a random one.")

    @model_validator(mode="after")
    def _one_repetition_penalty(self) -> Self:
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
        allowed = self.allowed_token_ids
        given: dict[str, Any] = {
            "top_k": None if self.top_k is None else max(0, self.top_k),
            "repetition_penalty": self._repetition_penalty,
            "penalty_last_n": self._penalty_last_n(default.penalty_last_n),
            "dry": await self._dry(backend),
            "logit_bias": await self._logit_bias(backend),
            "allowed_tokens": None if allowed is None else frozenset(allowed),
            "bad_words": await self._bad_words(backend),
            "stages": self.samplers,
        }
        for name in _SAME_NAMES:
            given[name] = getattr(self, name)
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

    async def _dry(self, backend: Backend) -> Dry:
        given: dict[str, Any] = {
            "multiplier": self.dry_multiplier,
            "base": self.dry_base,
            "allowed_length": self.dry_allowed_length,
            "penalty_last_n": self.dry_penalty_last_n,
        }
        known = {name: value for name, value in given.items() if value is not None}
        dry = replace(backend.sampling.dry, **known)
        if dry.multiplier == 0:
            return dry
        texts = self.dry_sequence_breakers
        breakers = await backend.breakers(tuple(DEFAULT_BREAKERS if texts is None else texts))
        return replace(dry, breakers=breakers)

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

    async def _bad_words(self, backend: Backend) -> tuple[tuple[int, ...], ...] | None:
        """As tokens, at the beginning of a word and inside of one."""
        if self.bad_words is None:
            return None
        words = [word.lstrip() or word for word in self.bad_words]
        texts = words + [f" {word}" for word in words]
        spelled = await backend.tokenize(texts, add_special=False, parse_special=False)
        return tuple({tuple(tokens): None for tokens in spelled if tokens})


_SAME_NAMES = SamplingParams.__dataclass_fields__.keys() & SamplingFields.model_fields.keys() - {
    "top_k", "repetition_penalty", "logit_bias", "bad_words", "seed",
}  # fmt: skip
"""Settings that are taken as they are sent."""


def _seed(seed: int) -> int | None:
    """What the random numbers start from; negative seeds as two's complement."""
    return None if seed == _RANDOM_SEED else seed % _SEEDS
