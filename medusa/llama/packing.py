"""Whether weights may be packed for our kernels: copies that they read faster."""

import logging

from medusa.llama import free_memory, runtime
from medusa.llama.kernels.library import Library

log = logging.getLogger(__name__)


def library_for(n_bytes: int) -> Library | None:
    """Who packs weights of so many bytes, each at its first use.

    None: our kernels do not run or do not pack, or the copies would take more than half of the
    memory that is free.
    """
    kernels = runtime.load().kernels
    if not kernels.packs:
        return None
    free = free_memory.of_host()
    if free is not None and n_bytes > free // 2:
        log.info("no room for packed copies of %d MB of weights", n_bytes >> 20)
        return None
    return kernels.library
