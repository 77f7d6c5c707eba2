"""Requests and heads for tests of drafting."""

from collections.abc import Sequence

import numpy as np

from medusa.speculation.heads.guessing import Proposals
from medusa.speculation.heads.header import HeadsHeader, Variant
from medusa.speculation.sources.source import DraftRequest

N_EMBD = 4
N_VOCAB = 100
REPEATING = (1, 2, 3, 4, 5, 1, 2)  # 3, 4, 5 may come next
NEW = (1, 2, 3, 4, 5)


class Key:
    """Stands for a running request."""


class FakeHeads:
    """Heads that always guess the same, by default two: 11 or 12, then 21 or 22."""

    device = "CPU"
    n_bytes = 0

    def __init__(
        self,
        variant: Variant = Variant.SHARED,
        counts: np.ndarray | None = None,
        tokens: Sequence[Sequence[int]] = ((11, 12), (21, 22)),
        probs: Sequence[Sequence[float]] = ((0.5, 0.25), (0.5, 0.25)),
    ) -> None:
        self.header = HeadsHeader(
            variant, len(tokens), 1, N_EMBD, N_VOCAB, "tiny", "0", calibration=counts
        )
        self.proposals = Proposals(np.array(tokens, np.int32), np.array(probs, np.float32))
        self.roots: list[list[int]] = []

    def propose(self, hidden: np.ndarray, roots: np.ndarray) -> list[Proposals]:
        assert hidden.shape == (len(roots), N_EMBD)
        self.roots.append(roots.tolist())
        return [self.proposals for _ in roots]


def wanted(
    tokens: Sequence[int],
    key: object | None = None,
    *,
    max_leaves: int = 10,
    max_depth: int = 10,
) -> DraftRequest:
    """A request for a tree; without a key, of a request that is gone afterwards."""
    hidden = np.zeros(N_EMBD, np.float32)
    return DraftRequest(key or Key(), tokens, hidden, max_leaves, max_depth)
