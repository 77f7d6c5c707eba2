"""A request's sampling settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

GREEDY_BELOW = 1e-6
"""Logits divided by less than that would leave float32's range, where nothing is a number."""

Breakers = Mapping[int, tuple[tuple[int, ...], ...]]
"""Tokens with which a text begins that breaks a repetition off, each with the runs of tokens that
complete it; an empty run: the token does so by itself."""


class Stage(StrEnum):
    """A step on the way from logits to the tokens that are drawn from, by llama.cpp's name."""

    PENALTIES = "penalties"
    DRY = "dry"
    TEMPERATURE = "temperature"
    TOP_N_SIGMA = "top_n_sigma"
    TOP_K = "top_k"
    TYPICAL_P = "typ_p"
    TOP_P = "top_p"
    MIN_P = "min_p"
    XTC = "xtc"


@dataclass(frozen=True)
class Dry:
    """DRY's settings ("don't repeat yourself"; p-e-w 2024, text-generation-webui #5677).

    A token that would go on with a repetition of `n >= allowed_length` tokens loses
    multiplier * base ** (n - allowed_length) of its logit; multiplier 0 switches it off. It looks
    at the newest penalty_last_n tokens, prompt included; -1: all.
    """

    multiplier: float = 0.0
    base: float = 1.75
    allowed_length: int = 2
    penalty_last_n: int = 64
    breakers: Breakers = field(default_factory=dict)


@dataclass(frozen=True)
class SamplingParams:
    """A request's sampling settings; names and meanings are OpenAI's, vLLM's and llama.cpp's.

    temperature 0, or as good as 0, is greedy decoding; dynatemp_range above 0 lets it vary by as
    much with the entropy. Filters, and what switches them off: top_k 0, top_p 1, min_p 0,
    typical_p 1, top_n_sigma 0, xtc_probability 0. They leave at least min_keep tokens. mirostat 1
    or 2 takes their place; 0: off. presence_penalty and frequency_penalty look at the generated
    tokens, repetition_penalty (CTRL, Keskar et al. 2019) at the prompt as well; all of them no
    further back than penalty_last_n tokens, -1 meaning all. Tokens in logit_bias get something
    added, those not in allowed_tokens and the last ones of bad_words (runs of generated tokens) are
    not chosen, nor what ends the text before min_tokens tokens. `stages` are gone through in their
    order; what is not among them is not done.
    """

    temperature: float = 1.0
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    top_n_sigma: float = 0.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    min_keep: int = 0
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    penalty_last_n: int = -1
    dry: Dry = field(default_factory=Dry)
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    allowed_tokens: frozenset[int] | None = None
    bad_words: tuple[tuple[int, ...], ...] = ()
    min_tokens: int = 0
    stages: tuple[Stage, ...] = tuple(Stage)
    seed: int | None = None

    @property
    def is_cold(self) -> bool:
        """Whether the temperature leaves the likeliest token only."""
        return self.temperature < GREEDY_BELOW and self.dynatemp_range <= 0
