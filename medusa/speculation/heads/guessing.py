"""What every implementation of Medusa heads has in common."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from medusa.speculation.heads.header import HeadsHeader

DEFAULT_TOP_K = 6
"""Guesses per head, and the ranks that calibration counts."""

RMS_EPSILON = 1e-6


@dataclass(frozen=True)
class Proposals:
    """What the heads guess for one slot, best first."""

    tokens: np.ndarray  # [n_heads, top_k] int32
    probs: np.ndarray  # [n_heads, top_k] float32


class Heads(Protocol):
    """Something that guesses the tokens after the next one."""

    @property
    def header(self) -> HeadsHeader:
        """What the heads are."""
        ...

    @property
    def device(self) -> str:
        """What runs them, as ggml calls it."""
        ...

    @property
    def n_bytes(self) -> int:
        """Memory taken there, without what is mapped from files."""
        ...

    def propose(self, hidden: np.ndarray, roots: np.ndarray) -> list[Proposals]:
        """Guesses for several slots at once.

        Args:
            hidden: [n_slots, n_embd] float32, each slot's last hidden state.
            roots: [n_slots] int32, the token sampled from each.
        """
        ...


class BaseRows(Protocol):
    """Rows of the base model's matrices, as `BaseWeights` has them."""

    def lm_head(self, rows: np.ndarray | None = None) -> np.ndarray:
        """[n] token ids (None: all) -> [n, n_embd] float32."""
        ...

    def embeddings(self, rows: np.ndarray) -> np.ndarray:
        """[n] token ids -> [n, n_embd] float32."""
        ...
