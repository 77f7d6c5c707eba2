"""The header of a GGUF file: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.

Readers that trust a file's lengths and counts end in odd errors, or never.
"""

import math
import mmap
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from medusa.errors import ModelLoadError

VERSIONS = (2, 3)
TOKENS = "tokenizer.ggml.tokens"
"""Metadata key of the vocabulary."""

_MAX_NAME = 63  # GGML_MAX_NAME, without the final NUL
_MAX_DIMS = 4
_MAX_KEY = 65535
_MAX_STRINGS = 1 << 24  # of an array; more than any vocabulary has
_ALIGNMENT = 32

FLOAT32, ARRAY = 6, 9
"""Types of metadata (gguf_type)."""
_STRING = 8
_SCALARS = {
    **{0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?"},
    **{10: "<Q", 11: "<q", 12: "<d"},
}
"""How struct reads a value of each type."""


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies. `shape` has the fastest dimension first, as in the file."""

    name: str
    shape: tuple[int, ...]
    kind: int  # ggml_type
    offset: int  # in bytes, from the start of the data


@dataclass(frozen=True)
class GgufHeader:
    """What a file says of itself.

    Of an array, `metadata` holds the number of its values, but of the tokens the bytes of each.
    """

    path: Path
    metadata: dict[str, Any]
    kinds: dict[str, int]  # gguf_type of each value
    tensors: list[TensorInfo]
    data_start: int  # in bytes, from the start of the file


def read_header(path: Path) -> GgufHeader:
    """Read a file's header.

    Raises:
        ModelLoadError: it is no GGUF, damaged, or ends before its tensors do.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(path, data).header()
    except OSError as error:
        raise ModelLoadError(f"cannot read {path}: {error.strerror}") from error
    except ValueError:  # from mmap
        raise ModelLoadError(f"{path} is empty") from None


class _Reader:
    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path = path
        self._data = data
        self._at = 0

    def header(self) -> GgufHeader:
        try:
            return self._header()
        except (struct.error, OverflowError):  # lengths that lead beyond the end
            raise self._damaged("it ends in the middle of its header") from None

    def _header(self) -> GgufHeader:
        if self._data[:4] != b"GGUF":
            raise ModelLoadError(f"{self._path} is not a GGUF file")
        self._at = 4
        version = self._scalar("<I")
        if version not in VERSIONS:
            raise ModelLoadError(
                f"{self._path}: GGUF version {version} is not supported (or not of this machine's "
                "byte order)"
            )
        metadata: dict[str, Any] = {}
        kinds: dict[str, int] = {}
        n_tensors, n_values = self._scalar("<Q"), self._scalar("<Q")
        for _ in range(self._bounded(n_values, "metadata", 13)):
            key = self._text("key", _MAX_KEY)
            if not key or key in metadata:
                raise self._damaged(f"the metadata key {key!r} is empty or there twice")
            metadata[key] = self._value(key, kinds)
        tensors = [self._tensor() for _ in range(self._bounded(n_tensors, "tensors", 24))]
        alignment = metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
            raise self._damaged(f"general.alignment is {alignment!r}, not a power of 2")
        start = -(-self._at // alignment) * alignment
        self._check_tensors(tensors, start, alignment)
        return GgufHeader(self._path, metadata, kinds, tensors, start)

    def _damaged(self, what: str) -> ModelLoadError:
        return ModelLoadError(f"{self._path} is damaged: {what}")

    def _scalar(self, layout: str) -> Any:
        (value,) = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return value

    def _bounded(self, count: int, what: str, least_bytes: int) -> int:
        """A count, if so many can be in the file at all."""
        if count * least_bytes > len(self._data) - self._at:
            raise self._damaged(
                f"it says that there are {count:,} {what}, more than it has room for"
            )
        return int(count)

    def _bytes(self, what: str, most: int) -> bytes:
        length = self._scalar("<Q")
        if length > min(most, len(self._data) - self._at):
            raise self._damaged(f"a {what} of {length:,} bytes")
        start, self._at = self._at, self._at + length
        return self._data[start : self._at]

    def _text(self, what: str, most: int) -> str:
        try:
            return self._bytes(what, most).decode()
        except UnicodeDecodeError:
            raise self._damaged(f"a {what} is not UTF-8") from None

    def _value(self, key: str, kinds: dict[str, int]) -> Any:
        kinds[key] = kind = self._scalar("<I")
        if kind == _STRING:
            return self._bytes(f"text ({key})", len(self._data)).decode("utf-8", "replace")
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind != ARRAY:
            raise self._damaged(f"the metadata {key} is of the unknown type {kind}")
        kind, count = self._scalar("<I"), self._scalar("<Q")
        if kind == _STRING:
            self._bounded(count, f"texts ({key})", 8)
            return self._tokens(count) if key == TOKENS else self._skip_texts(key, count)
        if kind not in _SCALARS:
            raise self._damaged(f"the metadata {key} is an array of the unknown type {kind}")
        size = struct.calcsize(_SCALARS[kind])
        self._at += self._bounded(count, f"values ({key})", size) * size
        return count

    def _tokens(self, count: int) -> list[bytes]:
        start, data = self._at, self._data
        self._skip_texts(TOKENS, count)
        length_at, tokens = struct.Struct("<Q").unpack_from, []
        texts = data[start : self._at]
        at = 0
        for _ in range(count):
            begin = at + 8
            at = begin + length_at(texts, at)[0]
            tokens.append(texts[begin:at])
        return tokens

    def _skip_texts(self, key: str, count: int) -> int:
        """Go over the texts of an array, of which there may be hundreds of thousands."""
        if count > _MAX_STRINGS:
            raise self._damaged(f"it says that there are {count:,} texts ({key})")
        data, at, length_at = self._data, self._at, struct.Struct("<Q").unpack_from
        for _ in range(count):
            at += 8 + length_at(data, at)[0]
        if at > len(data):
            raise self._damaged(f"a text ({key}) goes on beyond its end")
        self._at = at
        return count

    def _tensor(self) -> TensorInfo:
        name = self._text("tensor's name", _MAX_NAME)
        n_dims = self._scalar("<I")
        if n_dims > _MAX_DIMS:
            raise self._damaged(f"the tensor {name} has {n_dims:,} dimensions")
        shape = tuple(self._scalar("<Q") for _ in range(n_dims))
        return TensorInfo(name, shape, kind=self._scalar("<I"), offset=self._scalar("<Q"))

    def _check_tensors(self, tensors: Iterable[TensorInfo], start: int, alignment: int) -> None:
        """See to it that names are unique and that the tensors lie one after the other."""
        names: set[str] = set()
        end = 0
        for tensor in tensors:
            if tensor.name in names:
                raise self._damaged(f"the tensor {tensor.name} is there twice")
            names.add(tensor.name)
            if tensor.offset != end:
                raise self._damaged(f"the tensor {tensor.name} is not where the one before ends")
            size = self._size(tensor)
            if start + end + size > len(self._data):
                raise self._damaged(
                    f"it ends before its tensor {tensor.name} does; was it downloaded completely?"
                )
            end += -(-size // alignment) * alignment

    def _size(self, tensor: TensorInfo) -> int:
        """Bytes of a tensor."""
        try:
            block, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(tensor.kind)]
        except (ValueError, KeyError):
            raise self._damaged(
                f"the tensor {tensor.name} is of the unknown type {tensor.kind}"
            ) from None
        width = tensor.shape[0] if tensor.shape else 1
        if width % block:
            raise self._damaged(f"rows of the tensor {tensor.name} are no whole blocks of {block}")
        return math.prod(tensor.shape) // block * block_bytes
