"""Reading .bin and .pt files: pickles, of which nothing but tensors is ever brought to life."""

import pickle
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import CheckpointError, ConversionError, UnsupportedModelError
from convert.files.tensors import Dtype, StoredTensor

if TYPE_CHECKING:
    import torch


def read_torch_file(path: Path) -> list[StoredTensor]:
    """The tensors of a file, mapped from the disk.

    PyTorch's weights_only unpickler refuses everything but tensors and plain containers, so no
    code of the file runs.

    Raises:
        CheckpointError: the file is truncated, damaged, or holds more than tensors.
        ConversionError: PyTorch is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise ConversionError(
            f"reading {path.name} needs PyTorch: pip install 'llama-medusa[convert]' "
            "(safetensors files do without)"
        ) from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise CheckpointError(
                f"{path} holds more than tensors and could run code when opened; it was not opened"
            ) from None
        raise CheckpointError(f"{path} is damaged: {error}") from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is truncated or damaged: {reason}") from None
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path} holds no tensors by name, but a {type(state).__name__}")
    return [_tensor(path, str(name), value) for name, value in state.items()]


def _is_zip(path: Path) -> bool:
    """PyTorch's format since 1.6, the one that can be mapped."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _tensor(path: Path, name: str, value: Any) -> StoredTensor:
    import torch

    dtypes = {torch.float32: Dtype.F32, torch.float16: Dtype.F16, torch.bfloat16: Dtype.BF16}
    if not isinstance(value, torch.Tensor):
        raise CheckpointError(f"{path}: {name} is not a tensor, but a {type(value).__name__}")
    if value.dtype not in dtypes:
        raise UnsupportedModelError(f"{path.name}: the tensor {name} in format {value.dtype}")
    dtype = dtypes[value.dtype]
    return StoredTensor(name, tuple(value.shape), dtype, partial(_bits, value.detach(), dtype))


def _bits(value: "torch.Tensor", dtype: Dtype) -> np.ndarray:
    import torch

    if dtype is Dtype.BF16:
        value = value.contiguous().view(torch.uint16)
    bits: np.ndarray = value.numpy()
    return bits
