"""Tensors of a loaded model, to compute with them where they are."""

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

from medusa.llama.backend import Backend, Tensor
from medusa.llama.ggml import BASE, folder, functions
from medusa.llama.model import Model

LIBRARY = Path(__file__).with_name("libmedusa_tensors.so")
_TENSORS_OF = "_Z29llama_internal_get_tensor_mapB5cxx11PK11llama_model"


def resident(model: Model, name: str, backend: Backend) -> Tensor | None:
    """A tensor that a backend can use without a copy, which lives as long as the model.

    Args:
        model: with its weights.
        name: as in the file.
        backend: of one device.

    Returns:
        None: it is elsewhere, divided among devices, or nobody knows where.
    """
    find = _finder()
    if find is None:
        return None
    buffer_type = functions().backend_get_default_buffer_type(backend.address)
    found = find(model.handle, name.encode(), buffer_type)
    return None if found is None else Tensor(found)


@functools.cache
def _finder() -> Callable[[int, bytes, int], int | None] | None:
    try:
        find = ctypes.CDLL(str(LIBRARY)).medusa_find_tensor
        tensors_of = getattr(ctypes.CDLL(str(folder() / "libllama.so")), _TENSORS_OF)
    except (OSError, AttributeError):  # not compiled, or another llama.cpp
        return None
    type_of = ctypes.CDLL(str(folder() / BASE)).ggml_backend_buffer_get_type
    find.restype = ctypes.c_void_p
    find.argtypes = [ctypes.c_void_p, *(ctypes.c_void_p,) * 2, ctypes.c_char_p, ctypes.c_void_p]
    addresses = [ctypes.cast(each, ctypes.c_void_p) for each in (tensors_of, type_of)]
    return functools.partial(find, *addresses)
