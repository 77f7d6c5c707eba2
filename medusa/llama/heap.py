"""How much freed memory the process keeps for itself."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_ARRAY_BYTES = 8 << 20
_KEPT_BYTES = 32 << 20


def keep_freed_memory() -> None:
    """Let arrays as long as a vocabulary come from memory that was used before.

    glibc gives such amounts back to the system with every free, and to have each of their pages
    anew for every token takes longer than what is computed in them. Nothing elsewhere.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _ARRAY_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
