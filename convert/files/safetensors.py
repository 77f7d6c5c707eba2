"""Reading .safetensors without PyTorch.

Format: 8 bytes of little-endian length, that many bytes of JSON
{name: {dtype, shape, data_offsets: [begin, end]}}, then the data the offsets count in.

gguf's SafetensorsLocal does not notice truncated data or an entry whose shape, type and offsets
contradict each other; safetensors itself reads bfloat16 only with PyTorch.
"""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import CheckpointError, UnsupportedModelError
from convert.files.tensors import Dtype, StoredTensor

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""


def read_safetensors(path: Path) -> list[StoredTensor]:
    """The tensors of a file, none of them read yet.

    Raises:
        CheckpointError: the file is truncated or no safetensors file.
        UnsupportedModelError: a tensor has a format that is not for plain weights.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if not 2 <= length <= min(_MAX_HEADER_BYTES, size - _LENGTH_BYTES):
            raise CheckpointError(f"{path} is truncated or not a safetensors file")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise CheckpointError(f"{path} has a damaged header: {error}") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} has a damaged header: it is not a JSON object")
    header.pop("__metadata__", None)
    start = _LENGTH_BYTES + length
    return [_tensor(path, name, entry, start, size) for name, entry in header.items()]


def _tensor(path: Path, name: str, entry: Any, start: int, file_size: int) -> StoredTensor:
    try:
        dtype_name = str(entry["dtype"])
        shape = tuple(int(n) for n in entry["shape"])
        begin, end = (int(n) for n in entry["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path} has a damaged entry for the tensor {name}") from None
    if dtype_name not in Dtype.__members__:
        raise UnsupportedModelError(f"{path.name}: the tensor {name} in format {dtype_name}")
    dtype = Dtype(dtype_name)
    n_bytes = math.prod(shape) * dtype.stored.itemsize
    if min((begin, *shape)) < 0 or end - begin != n_bytes:
        raise CheckpointError(f"{path} has a damaged entry for the tensor {name}")
    if start + end > file_size:
        raise CheckpointError(
            f"{path} is truncated: the tensor {name} ends at byte {start + end:,}, "
            f"the file at {file_size:,}"
        )
    return StoredTensor(name, shape, dtype, partial(_read, path, start + begin, shape, dtype))


def _read(path: Path, offset: int, shape: tuple[int, ...], dtype: Dtype) -> np.ndarray:
    if 0 in shape:
        return np.empty(shape, dtype.stored)
    return np.memmap(path, dtype.stored, "r", offset, shape)
