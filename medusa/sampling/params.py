"""A request's sampling settings."""

from dataclasses import dataclass, field

_GREEDY_BELOW = 1e-6
"""Logits divided by less than that would leave float32's range, where nothing is a number."""


@dataclass(frozen=True)
class SamplingParams:
    """A request's sampling settings; the names and meanings are OpenAI's and vLLM's.

    temperature 0, or as good as 0, is greedy decoding. top_k 0, top_p 1 and min_p 0 switch a
    filter off. presence_penalty and frequency_penalty look at the generated tokens,
    repetition_penalty (CTRL, Keskar et al. 2019) at the prompt as well; all of them no further back
    than penalty_last_n tokens, -1 meaning all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    penalty_last_n: int = -1
    logit_bias: dict[int, float] = field(default_factory=dict)
    seed: int | None = None

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken, without a draw."""
        return self.temperature < _GREEDY_BELOW
