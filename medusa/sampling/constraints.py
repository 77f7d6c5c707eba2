"""What a request's text must look like, token by token: the seam for grammars and schemas."""

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np

from medusa.errors import MedusaError


class ConstraintFailedError(MedusaError):
    """A constraint cannot go on."""


class CostlyConstraintError(ConstraintFailedError):
    """A constraint takes more work at this place than it may."""


class NothingAllowedError(ConstraintFailedError):
    """A constraint, with the tokens that are forbidden anyway, leaves no token to choose."""


class TokenConstraint(Protocol):
    """Which tokens may come next in one request; it sees every token that is emitted."""

    def mask(self, row: np.ndarray) -> None:
        """Set logits of tokens that may not come next to -inf, in place. row: [n_vocab] float32."""
        ...

    def accept(self, token: int) -> None:
        """Go on to what may follow `token`, which was emitted."""
        ...

    def forced(self) -> Sequence[int]:
        """Tokens that must come next, one after the other; may be empty, even where one must."""
        ...

    def allows(self, token: int) -> bool:
        """Whether a token may come next."""
        ...

    def fork(self) -> Self:
        """One that looks ahead from here, while this one stays."""
        ...
