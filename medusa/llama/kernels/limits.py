"""What this processor can do at most, for benchmarks: a library of its own, not needed to serve."""

from __future__ import annotations

import ctypes
from pathlib import Path

from .library import UnavailableError

LIBRARY = Path(__file__).with_name("libmedusa_limits.so")


class Limits:
    """The loops of csrc/limits, measured when asked."""

    def __init__(self, path: Path = LIBRARY) -> None:
        try:
            self._lib = ctypes.CDLL(str(path))
        except OSError as error:
            raise UnavailableError(f"the library does not load: {error}") from error
        self._lib.medusa_limits_read_bandwidth.restype = ctypes.c_double
        self._lib.medusa_limits_read_bandwidth.argtypes = [ctypes.c_int]
        self._lib.medusa_limits_peak_products.restype = ctypes.c_double
        self._lib.medusa_limits_peak_products.argtypes = [ctypes.c_char_p, ctypes.c_int]

    def read_bandwidth(self, threads: int) -> float:
        """Bytes a second that the threads read from memory together."""
        return float(self._lib.medusa_limits_read_bandwidth(threads))

    def peak_products(self, isa: str, threads: int) -> float:
        """Integer products a second of all threads, operands in registers (4-bit weights).

        Raises UnavailableError if this processor does not have the instruction set.
        """
        products = float(self._lib.medusa_limits_peak_products(isa.encode(), threads))
        if not products:
            raise UnavailableError(f"this processor has no {isa}")
        return products
