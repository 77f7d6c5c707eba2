"""llama.cpp and our CPU kernels, loaded once per process and only when something needs them.

Importing this module loads nothing. API reference: llama.h of the llama.cpp that llama-cpp-python
vendors.
"""

import ctypes
import functools
import logging
from dataclasses import dataclass
from typing import Any

from medusa.llama import kernels

log = logging.getLogger("medusa.llama")

_LOG_LEVELS = {3: logging.WARNING, 4: logging.ERROR}


@dataclass(frozen=True)
class Runtime:
    """What this process computes with."""

    llama_cpp: Any  # the module of llama.cpp's C functions
    kernels: kernels.KernelStatus
    log_callback: Any  # kept alive, since llama.cpp calls it


@functools.cache
def load() -> Runtime:
    """Put our kernels in their places, then load llama.cpp."""
    status = kernels.load()
    import llama_cpp

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def forward_log(level: int, text: bytes, _user_data: object) -> None:
        message = text.decode("utf-8", "replace").rstrip()
        if message:
            log.log(_LOG_LEVELS.get(level, logging.DEBUG), "%s", message)

    llama_cpp.llama_log_set(forward_log, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return Runtime(llama_cpp, status, forward_log)


def gpu_offload_available() -> bool:
    """Whether this build of llama.cpp can offload and found a device to offload to."""
    return bool(load().llama_cpp.llama_supports_gpu_offload())
