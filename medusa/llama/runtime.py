"""llama.cpp and our CPU kernels, loaded once per process and only when something needs them.

Importing this module loads nothing. API reference: llama.h of the llama.cpp that llama-cpp-python
vendors.
"""

import ctypes
import functools
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from medusa.errors import DeviceMemoryError, ModelLoadError
from medusa.llama import kernels
from medusa.llama.guard import guarded
from medusa.llama.heap import keep_freed_memory

log = logging.getLogger("medusa.llama")

_LOG_LEVELS = {3: logging.WARNING, 4: logging.ERROR}
_kept = threading.local()  # .log: what `keep_log` of this thread gave out


@dataclass
class Log:
    """What llama.cpp said for a while, in its order: (level of `logging`, message)."""

    lines: list[tuple[int, str]] = field(default_factory=list)

    @property
    def cause(self) -> str:
        """The first error, without the name of the function that told it."""
        errors = (message for level, message in self.lines if level == logging.ERROR)
        first = next(errors, "llama.cpp does not say why")
        return re.sub(r"^\w+: (error loading model: )?", "", first)

    def failure(self, message: str) -> ModelLoadError:
        """The error that tells of this; a DeviceMemoryError if something was not allocated."""
        errors = (text for level, text in self.lines if level == logging.ERROR)
        lacks_memory = any("allocate" in text for text in errors)
        return (DeviceMemoryError if lacks_memory else ModelLoadError)(message)

    @property
    def messages(self) -> list[str]:
        """All that was said."""
        return [message for _, message in self.lines]


@contextmanager
def keep_log() -> Iterator[Log]:
    """Keep what llama.cpp says in this thread; its errors are for the caller to tell then."""
    outer: Log | None = getattr(_kept, "log", None)
    _kept.log = log = Log()
    try:
        yield log
    finally:
        _kept.log = outer
        if outer is not None:
            outer.lines += log.lines


@dataclass(frozen=True)
class Runtime:
    """What this process computes with."""

    llama_cpp: Any  # llama.cpp's C functions, without exceptions
    kernels: kernels.KernelStatus
    log_callback: Any  # kept alive, since llama.cpp calls it


@functools.cache
def load() -> Runtime:
    """Put our kernels in their places, then load llama.cpp."""
    keep_freed_memory()
    status = kernels.load()
    import llama_cpp

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def forward_log(level: int, text: bytes, _user_data: object) -> None:
        message = text.decode("utf-8", "replace").rstrip()
        if not message:
            return
        severity = _LOG_LEVELS.get(level, logging.DEBUG)
        kept: Log | None = getattr(_kept, "log", None)
        if kept is not None:
            kept.lines.append((severity, message))
            severity = logging.DEBUG
        log.log(severity, "%s", message)

    llama_cpp.llama_log_set(forward_log, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return Runtime(guarded(llama_cpp), status, forward_log)
