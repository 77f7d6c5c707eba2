"""Probabilities of a row of logits."""

import math

import numpy as np

from medusa.errors import NotNumbersError


def checked_peak(largest: float) -> float:
    """The largest logit of a row as it is, if it shows that all of them are numbers.

    A maximum is NaN where any logit is, and -inf where all are.

    Raises:
        NotNumbersError: it does not.
    """
    if not math.isfinite(largest):
        raise NotNumbersError(
            "the model's logits are not numbers; its file is damaged, or what computes it is broken"
        )
    return largest


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log probabilities of one row. Shapes: [n_vocab] float32 -> [n_vocab] float64.

    Raises:
        NotNumbersError: see `checked_peak`.
    """
    shifted = logits.astype(np.float64) - checked_peak(float(logits.max()))
    return shifted - np.log(np.exp(shifted).sum())
