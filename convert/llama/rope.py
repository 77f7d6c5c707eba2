"""What differs between Hugging Face's rotary embeddings and llama.cpp's."""

from dataclasses import dataclass

import numpy as np


def interleave_heads(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Reorder the rows of a q or k projection for llama.cpp.

    Hugging Face rotates dimension i of a head together with i + d/2, llama.cpp 2i with 2i + 1;
    attention is the same once both q and k are reordered.

    Args:
        weight: [n_heads * d, n_embd], or its bias [n_heads * d].
        n_heads: heads in the rows: query heads for q, key heads for k.

    Returns:
        The same shape and type.
    """
    halves = weight.reshape(n_heads, 2, -1, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's stretching of the rotary frequencies, as its model card and config define it."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int

    def divisors(self, head_dim: int, theta: float) -> np.ndarray:
        """What each frequency is divided by. [head_dim / 2] float32.

        Frequencies that turn more than high_freq_factor times within the original context stay,
        those that turn less than low_freq_factor times are divided by `factor`, and between the
        two the inverse is interpolated linearly.
        """
        frequencies = theta ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
        turns = self.original_context * frequencies / (2 * np.pi)
        keep = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        keep = np.clip(keep, 0.0, 1.0)
        return (1 / (keep + (1 - keep) / self.factor)).astype(np.float32)
