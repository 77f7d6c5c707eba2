"""GGUF files: reading them with errors that say what is wrong, writing them tensor by tensor."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from medusa.errors import ModelLoadError
from medusa.files import whole_file
from medusa.llama.gguf_header import ARRAY, GgufHeader, read_header

Kind = gguf.GGMLQuantizationType
"""How the numbers of a tensor are stored."""

Progress = Callable[[int, int], None]
"""Told the bytes done and the bytes there are."""


def row_width(kind: Kind, data: np.ndarray) -> int:
    """How many numbers a row has, data [..., numbers of a row, or its bytes where quantised]."""
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    return data.shape[-1] * data.itemsize // block_bytes * block


def block_size(kind: Kind) -> int:
    """How many numbers are quantised together: rows are whole blocks."""
    return gguf.GGML_QUANT_SIZES[kind][0]


def quantise(kind: Kind, values: np.ndarray) -> np.ndarray:
    """[..., width] float32 -> what a file stores of it; without llama.cpp, but not every kind."""
    return gguf.quantize(values, kind)


_DTYPES = {
    kind: np.dtype(kind.name.replace("F", "float").replace("I", "int"))
    for kind in (Kind.F16, Kind.F32, Kind.F64, Kind.I8, Kind.I16, Kind.I32, Kind.I64)
}
"""Of what lies in a file as NumPy has it; the rest are bytes."""

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
"""How llama.cpp names the parts of a split GGUF (llama_split_path)."""


def parts(path: Path) -> tuple[Path, ...]:
    """The files of a GGUF, of which a split one is known by its first; they need not exist.

    Raises:
        ModelLoadError: it is a later part of a split one.
    """
    match = _PART.fullmatch(path.name)
    if match is None:
        return (path,)
    count = int(match["count"])
    found = tuple(
        path.with_name(f"{match['stem']}-{number:05}-of-{count:05}.gguf")
        for number in range(1, count + 1)
    )
    if path != found[0]:
        raise ModelLoadError(
            f"{path} is part {int(match['number'])} of a split GGUF; give its first: {found[0]}"
        )
    return found


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as it lies in a file."""

    kind: Kind
    data: np.ndarray  # quantised: [..., bytes of a row] uint8

    @property
    def shape(self) -> tuple[int, ...]:
        """In numbers, slowest dimension first."""
        return (*self.data.shape[:-1], row_width(self.kind, self.data))

    @property
    def values(self) -> np.ndarray:
        """Dequantised, float32."""
        return gguf.dequantize(self.data, self.kind)

    def rows(self, places: np.ndarray) -> np.ndarray:
        """Some rows, dequantised. [n] -> [n, width] float32."""
        return gguf.dequantize(self.data[places], self.kind)


class GgufFile:
    """A GGUF's metadata and its tensors, memory-mapped; of a split one, the tensors of all parts.

    Raises:
        ModelLoadError: a file is no GGUF, damaged, or ends before its tensors do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        headers = [read_header(part) for part in parts(path)]
        self._header = headers[0]
        self.tensors = {name: tensor for header in headers for name, tensor in _stored(header)}

    def tensor(self, name: str) -> StoredTensor:
        """One of the tensors.

        Raises:
            ModelLoadError: there is none of that name.
        """
        try:
            return self.tensors[name]
        except KeyError:
            raise ModelLoadError(f"{self.path} lacks the tensor {name}") from None

    def text(self, key: str) -> str:
        """A metadata string.

        Raises:
            ModelLoadError: it is missing or something else.
        """
        value = self._value(key)
        if not isinstance(value, str):
            raise ModelLoadError(f"{self.path}: the metadata {key} is {value!r}, not a text")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """A metadata integer; `default` where there is none.

        Raises:
            ModelLoadError: it is something else, or missing without a default.
        """
        if default is not None and key not in self._header.metadata:
            return default
        value = self._value(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ModelLoadError(f"{self.path}: the metadata {key} is {value!r}, not an integer")
        return value

    def _value(self, key: str) -> object:
        if key not in self._header.metadata:
            raise ModelLoadError(f"{self.path} lacks the metadata {key}")
        if self._header.kinds[key] == ARRAY:
            raise ModelLoadError(f"{self.path}: the metadata {key} is an array")
        return self._header.metadata[key]


def _stored(header: GgufHeader) -> Iterator[tuple[str, StoredTensor]]:
    """The tensors of a file by their names."""
    file = np.memmap(header.path, np.uint8, "r")
    for tensor in header.tensors:
        kind = Kind(tensor.kind)
        shape: tuple[int, ...] = tensor.shape[::-1]
        dtype = _DTYPES.get(kind, np.dtype(np.uint8))
        if kind not in _DTYPES:
            shape = gguf.quant_shape_to_byte_shape(shape, kind)
        start = header.data_start + tensor.offset
        data = file[start : start + math.prod(shape) * dtype.itemsize]
        yield tensor.name, StoredTensor(kind, data.view(dtype).reshape(shape))


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the GGUF to be. `make` computes it, [*shape] in the layout of `kind`."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    make: Callable[[], np.ndarray]

    @property
    def n_bytes(self) -> int:
        """Its size in the file."""
        block, block_bytes = gguf.GGML_QUANT_SIZES[self.kind]
        return int(np.prod(self.shape, dtype=np.int64)) // block * block_bytes


def write_gguf(
    path: Path,
    architecture: str,
    metadata: Mapping[str, str | int],
    tensors: Sequence[PlannedTensor],
    on_progress: Progress,
) -> None:
    """Write a whole file, holding one tensor in memory at a time.

    Args:
        path: the file, replaced once all is written.
        architecture: what general.architecture says.
        metadata: texts and unsigned 32-bit integers by key.
        tensors: in file order.
        on_progress: told after every tensor.
    """
    with whole_file(path) as partial:
        writer = gguf.GGUFWriter(partial, architecture)
        for key, value in metadata.items():
            if isinstance(value, str):
                writer.add_string(key, value)
            else:
                writer.add_uint32(key, value)
        write_tensors(writer, tensors, on_progress)


def write_tensors(
    writer: gguf.GGUFWriter, tensors: Sequence[PlannedTensor], on_progress: Progress
) -> None:
    """Write header, metadata and tensors, holding one tensor in memory at a time. Closes the file.

    Args:
        writer: with the path, and all metadata added.
        tensors: in file order.
        on_progress: told after every tensor.
    """
    for tensor in tensors:
        writer.add_tensor_info(
            tensor.name, tensor.shape, np.dtype(np.float32), tensor.n_bytes, tensor.kind
        )
    total = sum(tensor.n_bytes for tensor in tensors)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, tensor in _with_bytes_done(tensors):
            writer.write_tensor_data(tensor.make())
            on_progress(done, total)
    finally:
        writer.close()


def _with_bytes_done(tensors: Sequence[PlannedTensor]) -> Iterator[tuple[int, PlannedTensor]]:
    done = 0
    for tensor in tensors:
        done += tensor.n_bytes
        yield done, tensor
