"""What all Medusa heads say of themselves, whatever their variant."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from medusa.errors import HeadsMismatchError

if TYPE_CHECKING:
    import numpy as np


class Variant(StrEnum):
    """How heads are built."""

    FULL = "full"  # ResBlocks, then a Linear(n_embd, n_vocab) of their own: the official layout
    SHARED = "shared"  # ResBlocks, then the base model's lm_head
    HYDRA = "hydra"  # each head also reads the token before its own; one output for all


@dataclass(frozen=True)
class HeadsHeader:
    """Everything that a heads file says of its tensors."""

    variant: Variant
    n_heads: int  # how many tokens ahead the heads guess
    n_layers: int  # ResBlocks of a head; for Hydra, cells: head k uses cell min(k, n_layers - 1)
    n_embd: int  # width of the base model's hidden state
    n_vocab: int
    base_name: str
    base_fingerprint: str
    draft_tokens: np.ndarray | None = None  # [n_draft] int32; None: the whole vocabulary
    name: str = "Medusa heads"
    width: int = 0  # of a Hydra cell's inner layer
    rank: int = 0  # of Hydra heads' output matrix; 0: they use the base model's lm_head
    calibration: np.ndarray | None = None
    """[2, n_heads, top_k, bins] float32, hits and trials as `Calibration` counts them."""

    @property
    def n_draft(self) -> int:
        """How many tokens the heads can propose."""
        return self.n_vocab if self.draft_tokens is None else len(self.draft_tokens)

    def check_fits(
        self, *, n_embd: int, n_vocab: int, base_fingerprint: str, base_name: str
    ) -> None:
        """Compare with a base model.

        Raises:
            HeadsMismatchError: names everything that does not fit.
        """
        problems = []
        if self.n_embd != n_embd:
            problems.append(f"they read hidden states of width {self.n_embd}, not {n_embd}")
        if self.n_vocab != n_vocab:
            problems.append(f"they guess from {self.n_vocab} tokens, not {n_vocab}")
        if not problems and self.base_fingerprint != base_fingerprint:
            problems.append(
                f"they were made for another model (fingerprint {self.base_fingerprint}, "
                f"this one is {base_fingerprint})"
            )
        if problems:
            raise HeadsMismatchError(
                f"heads made for {self.base_name!r} do not fit {base_name!r}: "
                + "; ".join(problems)
            )
