"""C++ exceptions of llama.cpp become errors of the request they happened in.

llama.h lets exceptions through, and one that meets ctypes ends the process.
"""

import ctypes
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

log = logging.getLogger("medusa.llama")

LIBRARY = Path(__file__).with_name("libmedusa_guard.so")

_MESSAGE_BYTES = 256


def guarded(llama_cpp: Any, library: Path = LIBRARY) -> Any:
    """llama.cpp's functions, those that compute for requests without their exceptions.

    Where one throws, llama_decode returns -4 and llama_tokenize -2^31; what it threw is logged.

    Args:
        llama_cpp: the module with the functions.
        library: without it nothing is guarded.
    """
    if not library.exists():
        return llama_cpp
    guard = ctypes.CDLL(str(library))
    pairs = {
        "llama_decode": guard.medusa_guard_decode,
        "llama_tokenize": guard.medusa_guard_tokenize,
    }
    real = {name: getattr(llama_cpp, name) for name in pairs}
    guard.medusa_guard_bind(*(ctypes.cast(f, ctypes.c_void_p) for f in real.values()))

    def log_exception(status: Any, function: Any, _arguments: object) -> Any:
        if status < 0:
            message = ctypes.create_string_buffer(_MESSAGE_BYTES)
            guard.medusa_guard_take(message, _MESSAGE_BYTES)
            if message.value:
                log.error(
                    "%s threw: %s", function.__name__, message.value.decode("utf-8", "replace")
                )
        return status

    for name, function in pairs.items():
        function.argtypes, function.restype = real[name].argtypes, real[name].restype
        function.errcheck = log_exception
    return SimpleNamespace(**vars(llama_cpp) | pairs)
