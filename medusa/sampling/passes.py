"""Passes over whole rows: compiled (csrc/passes.cpp), or NumPy's where that was not possible.

What is compiled gives the same bits on every processor. It keeps Python's lock: it is done sooner
than the lock would come back.
"""

import ctypes
from functools import cached_property
from pathlib import Path

import numpy as np

from medusa.sampling import selecting

LIBRARY = Path(__file__).with_name("libmedusa_passes.so")

_P, _N, _F, _D = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_float, ctypes.c_double
_FUNCTIONS = {
    "medusa_weigh": ([_P, _N, _F, _F, _P, _P], None),
    "medusa_block_sums": ([_P, _N, _P], None),
    "medusa_crossing": ([_P, _N, _P, _D], _N),
    "medusa_crossing_exponentials": ([_P, _N, _F, _F, _P, _D], _N),
    "medusa_reaching": ([_P, _N, _F, _P], _N),
    "medusa_nucleus": ([_P, _N, _D, _D, _P], _N),
}


def opened(library: Path) -> ctypes.PyDLL | None:
    """The compiled library; None: there is none for this machine."""
    try:
        functions = ctypes.PyDLL(str(library))
    except OSError:
        return None
    for name, (arguments, result) in _FUNCTIONS.items():
        function = getattr(functions, name)
        function.argtypes, function.restype = arguments, result
    return functions


compiled = opened(LIBRARY)


class Weights:
    """How likely some tokens are beside one another.

    Args:
        values: [n] float32, contiguous, from 0 to 1 and not all 0.
    """

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    @property
    def values(self) -> np.ndarray:
        """[n] float32."""
        return self._values

    @cached_property
    def sums(self) -> np.ndarray:
        """[n / BLOCK, rounded up] float64: of BLOCK weights each, the last of fewer."""
        return block_sums(self.values)

    @cached_property
    def total(self) -> float:
        """What all weigh together."""
        return float(self.sums.sum())

    def crossing(self, share: float) -> int:
        """Where a running sum exceeds a share of all, from 0 to below 1.

        Returns:
            An index; where rounding keeps the sum from getting there, one whose weight is not 0.
        """
        values, sums = self.values, self.sums
        if compiled is None:
            return selecting.crossing(values, sums, share)
        return int(
            compiled.medusa_crossing(values.ctypes.data, len(values), sums.ctypes.data, share)
        )


class Exponentials(Weights):
    """exp((logits - peak) * scale). A draw computes the sums and one block, and keeps no others.

    Args:
        logits: [n] float32, none above the peak.
        peak: finite.
        scale: above 0.
    """

    def __init__(self, logits: np.ndarray, peak: np.float32, scale: np.float32) -> None:
        self._logits = np.ascontiguousarray(logits)
        self._peak = peak
        self._scale = scale

    @cached_property
    def values(self) -> np.ndarray:
        """[n] float32."""
        if compiled is None:
            weights: np.ndarray = np.exp((self._logits - self._peak) * self._scale)
            return weights
        values = np.empty(len(self._logits), np.float32)
        self.__dict__["sums"] = self._weighed(values)
        return values

    @cached_property
    def sums(self) -> np.ndarray:
        """[n / BLOCK, rounded up] float64: of BLOCK weights each, the last of fewer."""
        return block_sums(self.values) if compiled is None else self._weighed(None)

    def crossing(self, share: float) -> int:
        """As `Weights.crossing`."""
        if compiled is None or "values" in self.__dict__:
            return super().crossing(share)
        logits, sums = self._logits, self.sums
        return int(
            compiled.medusa_crossing_exponentials(
                logits.ctypes.data, len(logits), self._peak, self._scale, sums.ctypes.data, share
            )
        )

    def _weighed(self, values: np.ndarray | None) -> np.ndarray:
        """The sums; also writes the weights, if they are wanted."""
        assert compiled is not None
        logits, sums = self._logits, _empty_sums(len(self._logits))
        compiled.medusa_weigh(
            logits.ctypes.data,
            len(logits),
            self._peak,
            self._scale,
            None if values is None else values.ctypes.data,
            sums.ctypes.data,
        )
        return sums


def block_sums(values: np.ndarray) -> np.ndarray:
    """The sums of BLOCK numbers each, the last of fewer: [n] float32 -> float64."""
    if compiled is None:
        return selecting.block_sums(values)
    values = np.ascontiguousarray(values)
    sums = _empty_sums(len(values))
    compiled.medusa_block_sums(values.ctypes.data, len(values), sums.ctypes.data)
    return sums


def reaching(values: np.ndarray, limit: float) -> np.ndarray:
    """Ascending indices of those of [n] float32 that are at least the limit, as a float32."""
    if compiled is None:
        return np.flatnonzero(values >= np.float32(limit))
    values = np.ascontiguousarray(values)
    indices = np.empty(len(values), np.int64)
    count = compiled.medusa_reaching(values.ctypes.data, len(values), limit, indices.ctypes.data)
    return indices[:count]


def nucleus(weights: Weights, share: float) -> np.ndarray:
    """The smallest set of largest weights that holds a share of their sum; equal ones by index.

    Args:
        weights: [n].
        share: from 0 to below 1.

    Returns:
        Ascending indices.
    """
    values, total = weights.values, weights.total
    if compiled is None:
        return selecting.nucleus(values, share * total)
    indices = np.empty(len(values), np.int64)
    count = compiled.medusa_nucleus(
        values.ctypes.data, len(values), total, share, indices.ctypes.data
    )
    return indices[:count]


def _empty_sums(count: int) -> np.ndarray:
    return np.empty(-(-count // selecting.BLOCK))
