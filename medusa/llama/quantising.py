"""Writing a model in another quantisation."""

import ctypes
from pathlib import Path

from medusa.errors import ModelLoadError
from medusa.llama import runtime

FTYPE_F32 = 0
"""LLAMA_FTYPE_ALL_F32."""


def quantize(
    source: Path, target: Path, ftype: int, *, threads: int = 0, allow_requantize: bool = False
) -> None:
    """Write `source` in another quantisation (ftype: a LLAMA_FTYPE_* number).

    Raises:
        ModelLoadError: llama.cpp could not read or write.
    """
    llama_cpp = runtime.load().llama_cpp
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = ftype
    params.nthread = threads
    params.allow_requantize = allow_requantize
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(params)
    )
    if status:
        raise ModelLoadError(f"llama.cpp could not quantise {source} to {target} ({status})")
