"""Heads that are right at given rates, for models whose own heads cannot be had.

The model is made to write one token over and over by a logit bias, so what it will write is
known; the real heads run, and their guesses are replaced by ones that hold that token at a rank
drawn from the rates. Decoding, verification and all else are as always.
"""

from dataclasses import replace

import numpy as np

from medusa.engine.requests import GenerationRequest
from medusa.sampling.params import SamplingParams
from medusa.speculation.heads.guessing import Heads, Proposals
from medusa.speculation.heads.header import Variant

TOKEN = 300
_WRONG = 400

_FIRST_HEAD = (0.60, 0.11, 0.05, 0.03, 0.02, 0.015)
_DECAY = 0.70

RATES = np.array([[rate * _DECAY**head for rate in _FIRST_HEAD] for head in range(5)], np.float32)
"""[n_heads, top_k]: how often the true token is a head's guess of that rank.

The first head's are those that Medusa's authors announced for Vicuna 7B, 60 % at rank 1 and over
80 % within 5; how they fall off over ranks and heads is assumed.
"""


def request(n_prompt: int, n_tokens: int, seed: int) -> GenerationRequest:
    """A random prompt, answered by n_tokens times TOKEN."""
    prompt = np.random.default_rng(seed).integers(500, 20_000, n_prompt)
    return GenerationRequest(
        tuple(int(token) for token in prompt),
        SamplingParams(temperature=0.0, logit_bias={TOKEN: 1e4}),
        max_tokens=n_tokens,
        ignore_eos=True,
    )


class SyntheticHeads:
    """Runs `heads`, then guesses right at RATES."""

    def __init__(self, heads: Heads, seed: int = 0) -> None:
        self._heads = heads
        self._rng = np.random.default_rng(seed)
        n_heads = min(heads.header.n_heads, len(RATES))
        self.header = replace(heads.header, n_heads=n_heads, variant=Variant.SHARED)
        self.device, self.n_bytes = heads.device, heads.n_bytes

    def propose(self, hidden: np.ndarray, roots: np.ndarray) -> list[Proposals]:
        """As `Heads.propose`."""
        self._heads.propose(hidden, roots)
        return [self._guess() for _ in range(len(hidden))]

    def _guess(self) -> Proposals:
        rates = RATES[: self.header.n_heads]
        tokens = np.tile(
            np.arange(_WRONG, _WRONG + rates.shape[1], dtype=np.int32), (len(rates), 1)
        )
        drawn = self._rng.random(len(rates))
        ranks = (drawn[:, None] >= rates.cumsum(axis=1)).sum(axis=1)
        for head, rank in enumerate(ranks):
            if rank < rates.shape[1]:
                tokens[head, rank] = TOKEN
        return Proposals(tokens, rates)
