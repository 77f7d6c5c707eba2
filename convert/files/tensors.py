"""A tensor that lies in a file of a checkpoint and is read when it is needed."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import prod

import numpy as np

_BF16_EXPONENT = np.uint16(0x7F80)


class Dtype(StrEnum):
    """Number formats that checkpoints keep weights in, by their names in safetensors."""

    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"

    @property
    def stored(self) -> np.dtype:
        """How NumPy holds the bits: NumPy has no bfloat16, so those are uint16."""
        return np.dtype({"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[self.value])


@dataclass(frozen=True)
class StoredTensor:
    """Name, shape and format of a tensor, and how to get its bits.

    `read` gives [*shape] in `dtype.stored`, mapped from the file where that is possible.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Dtype
    read: Callable[[], np.ndarray]

    @property
    def n_elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    def float32(self, rows: np.ndarray | None = None) -> np.ndarray:
        """The values as float32, [*shape], or [n, *shape[1:]] of the given n rows."""
        bits = self.read() if rows is None else self.read()[rows]
        if self.dtype is Dtype.BF16:
            return (bits.astype(np.uint32) << 16).view(np.float32)
        return bits.astype(np.float32, copy=False)

    def is_finite(self) -> bool:
        """Whether it is free of infinities and NaNs, which no sound checkpoint has."""
        bits = self.read()
        if self.dtype is Dtype.BF16:
            return not ((bits & _BF16_EXPONENT) == _BF16_EXPONENT).any()
        return bool(np.isfinite(bits).all())
