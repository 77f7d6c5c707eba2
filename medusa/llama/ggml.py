"""The C API of ggml, as far as we use it: the one binding of it.

Whoever wants our kernels to compute calls `runtime.load` before anything here. API reference:
ggml.h, ggml-alloc.h, ggml-backend.h and ggml-cpu.h.
"""

import ctypes
import functools
import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from medusa.llama.gguf_files import Kind

BASE, CPU, REGISTRY = "libggml-base.so.0", "libggml-cpu.so.0", "libggml.so.0"
"""The libraries' names."""

ALIGNMENT = 32
"""What ggml asks of the addresses of constants, in bytes; that of most GGUF files."""


class GgmlUnavailableError(Exception):
    """The installed ggml cannot be used this way; the message says why."""


class InitParams(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = [
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    ]


_POINTER, _INT, _I64, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_size_t
_UNARY, _BINARY = (_POINTER,) * 2, (_POINTER,) * 3  # the context and one or two tensors

_BASE_FUNCTIONS: dict[str, tuple[object, ...]] = {  # result, arguments
    "ggml_init": (_POINTER, InitParams),
    "ggml_free": (None, _POINTER),
    "ggml_tensor_overhead": (_SIZE,),
    "ggml_graph_overhead_custom": (_SIZE, _SIZE, ctypes.c_bool),
    "ggml_get_data": (_POINTER, _POINTER),
    "ggml_op_desc": (ctypes.c_char_p, _POINTER),
    "ggml_row_size": (_SIZE, _INT, _I64),
    "ggml_quantize_chunk": (_SIZE, _INT, _POINTER, _POINTER, _I64, _I64, _I64, _POINTER),
    "ggml_new_tensor_4d": (_POINTER, _POINTER, _INT, _I64, _I64, _I64, _I64),
    "ggml_set_input": (None, _POINTER),
    "ggml_set_output": (None, _POINTER),
    "ggml_mul_mat": (_POINTER, *_BINARY),
    "ggml_mul_mat_id": (_POINTER, *_BINARY, _POINTER),
    "ggml_permute": (_POINTER, *_UNARY, _INT, _INT, _INT, _INT),
    "ggml_add": (_POINTER, *_BINARY),
    "ggml_silu": (_POINTER, *_UNARY),
    "ggml_rms_norm": (_POINTER, *_UNARY, ctypes.c_float),
    "ggml_soft_max": (_POINTER, *_UNARY),
    "ggml_flash_attn_ext": (_POINTER, *(_POINTER,) * 5, *(ctypes.c_float,) * 3),
    "ggml_flash_attn_ext_add_sinks": (None, _POINTER, _POINTER),
    "ggml_concat": (_POINTER, *_BINARY, _INT),
    "ggml_top_k": (_POINTER, *_UNARY, _INT),
    "ggml_argmax": (_POINTER, *_UNARY),
    "ggml_get_rows": (_POINTER, *_BINARY),
    "ggml_reshape_1d": (_POINTER, *_UNARY, _I64),
    "ggml_reshape_2d": (_POINTER, *_UNARY, _I64, _I64),
    "ggml_reshape_3d": (_POINTER, *_UNARY, _I64, _I64, _I64),
    "ggml_new_graph_custom": (_POINTER, _POINTER, _SIZE, ctypes.c_bool),
    "ggml_build_forward_expand": (None, _POINTER, _POINTER),
    "ggml_graph_n_nodes": (_INT, _POINTER),
    "ggml_graph_node": (_POINTER, _POINTER, _INT),
    "ggml_gallocr_new": (_POINTER, _POINTER),
    "ggml_gallocr_alloc_graph": (ctypes.c_bool, _POINTER, _POINTER),
    "ggml_gallocr_free": (None, _POINTER),
    "ggml_gallocr_get_buffer_size": (_SIZE, _POINTER, _INT),
    "ggml_backend_get_default_buffer_type": (_POINTER, _POINTER),
    "ggml_backend_alloc_ctx_tensors": (_POINTER, _POINTER, _POINTER),
    "ggml_backend_cpu_buffer_from_ptr": (_POINTER, _POINTER, _SIZE),
    "ggml_backend_buffer_free": (None, _POINTER),
    "ggml_backend_buffer_set_usage": (None, _POINTER, _INT),
    "ggml_backend_tensor_alloc": (_INT, _POINTER, _POINTER, _POINTER),
    "ggml_backend_tensor_set": (None, _POINTER, _POINTER, _SIZE, _SIZE),
    "ggml_backend_tensor_get": (None, _POINTER, _POINTER, _SIZE, _SIZE),
    "ggml_backend_tensor_set_async": (None, *_BINARY, _SIZE, _SIZE),
    "ggml_backend_tensor_get_async": (None, *_BINARY, _SIZE, _SIZE),
    "ggml_backend_graph_compute_async": (_INT, _POINTER, _POINTER),
    "ggml_backend_synchronize": (None, _POINTER),
    "ggml_backend_supports_op": (ctypes.c_bool, _POINTER, _POINTER),
    "ggml_backend_get_device": (_POINTER, _POINTER),
    "ggml_backend_free": (None, _POINTER),
}
_CPU_FUNCTIONS: dict[str, tuple[object, ...]] = {
    "ggml_backend_cpu_init": (_POINTER,),
    "ggml_backend_cpu_set_n_threads": (None, _POINTER, _INT),
}
_REGISTRY_FUNCTIONS: dict[str, tuple[object, ...]] = {
    "ggml_backend_dev_count": (_SIZE,),
    "ggml_backend_dev_get": (_POINTER, _SIZE),
    "ggml_backend_dev_by_name": (_POINTER, ctypes.c_char_p),
    "ggml_backend_dev_init": (_POINTER, _POINTER, ctypes.c_char_p),
    "ggml_backend_dev_type": (_INT, _POINTER),
    "ggml_backend_dev_name": (ctypes.c_char_p, _POINTER),
    "ggml_backend_dev_description": (ctypes.c_char_p, _POINTER),
    "ggml_backend_dev_backend_reg": (_POINTER, _POINTER),
    "ggml_backend_dev_memory": (None, _POINTER, _POINTER, _POINTER),
    "ggml_backend_reg_by_name": (_POINTER, ctypes.c_char_p),
    "ggml_backend_reg_name": (ctypes.c_char_p, _POINTER),
    "ggml_backend_reg_get_proc_address": (_POINTER, _POINTER, ctypes.c_char_p),
    "ggml_backend_register": (None, _POINTER),
}


def folder() -> Path:
    """Where the ggml libraries of the installed llama_cpp are; does not import it.

    Raises:
        GgmlUnavailableError: there is none, or nobody knows which.
    """
    if "LLAMA_CPP_LIB_PATH" in os.environ:
        raise GgmlUnavailableError("LLAMA_CPP_LIB_PATH names a llama.cpp of unknown version")
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        raise GgmlUnavailableError("llama-cpp-python is not installed")
    return Path(spec.submodule_search_locations[0]) / "lib"


@functools.cache
def functions() -> SimpleNamespace:
    """The functions above, without their prefix. Loads the libraries.

    Raises:
        GgmlUnavailableError: no ggml, or another than this module knows.
    """
    base = _functions(folder() / BASE, _BASE_FUNCTIONS)
    return SimpleNamespace(**base, **_functions(folder() / CPU, _CPU_FUNCTIONS))


@functools.cache
def registry() -> SimpleNamespace:
    """The functions about devices, without their prefix, once llama.cpp is loaded.

    Raises:
        GgmlUnavailableError: no ggml, or another than this module knows.
    """
    return SimpleNamespace(**_functions(folder() / REGISTRY, _REGISTRY_FUNCTIONS))


def _functions(path: Path, signatures: dict[str, tuple[object, ...]]) -> dict[str, object]:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise GgmlUnavailableError(f"{path} does not load: {error}") from error
    found = {}
    for name, (result, *arguments) in signatures.items():
        function = getattr(library, name, None)
        if function is None:
            raise GgmlUnavailableError(f"{path} has no function {name}")
        function.restype, function.argtypes = result, arguments
        found[name.removeprefix("ggml_")] = function
    return found


def quantise(kind: Kind, values: np.ndarray) -> np.ndarray:
    """[rows, width] float32 -> [rows, bytes of a row] uint8; quantised kinds want whole blocks."""
    rows, width = values.shape
    values = np.ascontiguousarray(values, np.float32)
    out = np.empty((rows, functions().row_size(kind, width)), np.uint8)
    functions().quantize_chunk(kind, values.ctypes.data, out.ctypes.data, 0, rows, width, None)
    return out
