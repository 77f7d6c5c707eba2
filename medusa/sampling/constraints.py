"""Restrictions of what may be sampled next."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class TokenConstraint(Protocol):
    """Says which tokens may come next. One object serves one request.

    The sampler asks at nodes in the order in which their tokens are emitted, so nothing is ever
    taken back.
    """

    def mask(self, row: np.ndarray) -> None:
        """Set the logits [n_vocab] float32 of what may not come next to -inf, in place."""
        ...

    def accept(self, token: int) -> None:
        """Take over the token that was chosen."""
        ...

    def forced(self) -> Sequence[int]:
        """Tokens that must come next, one after the other; empty where there is a choice."""
        ...
