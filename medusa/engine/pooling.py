"""From the hidden states of a text's tokens to one vector."""

from enum import StrEnum

import numpy as np

from medusa.errors import NotNumbersError


class Pooling(StrEnum):
    """How a text becomes a vector."""

    MEAN = "mean"  # of all tokens
    LAST = "last"  # the last token
    CLS = "cls"  # the first token, of embedding models that are made for it
    RANK = "rank"  # the scores of a reranking model


HIDDEN_STATES = (Pooling.MEAN, Pooling.LAST)
"""What can be done with the hidden states of any model."""


class Pooler:
    """Pools a text's hidden states as they come, whatever the pieces.

    Args:
        pooling: one of HIDDEN_STATES if hidden states come.
        n_tokens: length of the text.

    Attributes:
        n_missing: last tokens whose hidden states are still wanted.
    """

    def __init__(self, pooling: Pooling, n_tokens: int) -> None:
        self._pooling = pooling
        self.n_missing = 1 if pooling is Pooling.LAST else n_tokens
        self._sum: np.ndarray | None = None

    def add(self, hidden: np.ndarray) -> None:
        """Take the next rows [n, n_embd] float32."""
        if self._sum is None:
            self._sum = np.zeros(hidden.shape[1], np.float64)
        for row in hidden:  # in this order, so that the pieces do not matter
            self._sum += row
        self.n_missing -= len(hidden)

    def take(self, pooled: np.ndarray) -> None:
        """Take what was pooled elsewhere, [width] float32."""
        self._sum = pooled
        self.n_missing = 0

    def vector(self) -> np.ndarray:
        """A reranker's scores, else the embedding: the mean's direction, and so the sum's. float32.

        Raises:
            NotNumbersError: the hidden states are none.
        """
        assert self._sum is not None
        if self._pooling is Pooling.RANK:
            return checked(self._sum)
        return normalised(self._sum)


def normalised(vector: np.ndarray) -> np.ndarray:
    """A vector scaled to length 1, as float32; one of zeros stays as it is.

    Raises:
        NotNumbersError: it has none.
    """
    length = float(np.linalg.norm(checked(vector)))
    return (vector / length if length else vector).astype(np.float32)


def checked(vector: np.ndarray) -> np.ndarray:
    """The vector, if it has numbers only.

    Raises:
        NotNumbersError: it has not.
    """
    if not np.isfinite(vector).all():
        raise NotNumbersError(
            "the model's hidden states are not numbers; its file is damaged, or what computes it "
            "is broken"
        )
    return vector
