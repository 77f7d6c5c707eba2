"""The file of one saved text: a header that is checked when files are listed, then its state.

Byte order is little-endian. Whatever is not as it should be makes the file worthless, never wrong.
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medusa.files import whole_file

SUFFIX = ".state"

_MAGIC = b"medusaS1"
_HEADER = struct.Struct("<8s32sIIQI")  # magic, identity, tokens, their CRC, bytes, their CRC


class UnusableFileError(Exception):
    """A file is damaged, or belongs to another model or other settings."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its state."""

    tokens: np.ndarray  # [n] int32
    size: int  # of the state, in bytes
    checksum: int  # CRC-32 of the state


def file_name(identity: bytes, tokens: np.ndarray) -> str:
    """What the file of a text is called, by a digest of all that its state follows from."""
    digest = hashlib.sha256(_token_bytes(tokens)).hexdigest()[:32]
    return f"{prefix_of(identity)}{digest}{SUFFIX}"


def prefix_of(identity: bytes) -> str:
    """What the names of all files of one identity begin with."""
    return f"{identity.hex()[:16]}-"


def file_size(tokens: np.ndarray, size: int) -> int:
    """Bytes of the file of a text with a state of `size` bytes."""
    return _HEADER.size + 4 * len(tokens) + size


def write(path: Path, identity: bytes, tokens: np.ndarray, state: np.ndarray) -> None:
    """Write a file that only the user may read, whole or not at all.

    Args:
        path: where to.
        identity: 32 bytes: of the model and the settings that the state depends on.
        tokens: [n] int32.
        state: [size] uint8.

    Raises:
        OSError: it could not be written.
    """
    text = _token_bytes(tokens)
    header = _HEADER.pack(
        _MAGIC, identity, len(tokens), zlib.crc32(text), state.nbytes, zlib.crc32(state.data)
    )
    with whole_file(path) as partial:
        partial.touch(mode=0o600)
        with partial.open("wb") as file:
            file.write(header)
            file.write(text)
            file.write(state.data)


def read_header(path: Path, identity: bytes) -> Header:
    """Read all but the state.

    Raises:
        UnusableFileError: it is not whole, or of another identity.
        OSError: it could not be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size:
            raise UnusableFileError("it is too short")
        magic, owner, n_tokens, tokens_crc, size, checksum = _HEADER.unpack(head)
        if magic != _MAGIC or owner != identity:
            raise UnusableFileError("it belongs to another model or other settings")
        length = path.stat().st_size
        if length != _HEADER.size + 4 * n_tokens + size:
            raise UnusableFileError(f"it is {length:,} bytes long, which it should not be")
        text = file.read(4 * n_tokens)
    if zlib.crc32(text) != tokens_crc:
        raise UnusableFileError("its tokens are damaged")
    return Header(np.frombuffer(text, "<i4").astype(np.int32), size, checksum)


def read_state(path: Path, identity: bytes, tokens: np.ndarray) -> np.ndarray:
    """Read a text's state, [size] uint8.

    Raises:
        UnusableFileError: it is not whole, or of another identity or text.
        OSError: it could not be read.
    """
    header = read_header(path, identity)
    if not np.array_equal(header.tokens, tokens):
        raise UnusableFileError("it is of another text")
    state = np.empty(header.size, np.uint8)
    with path.open("rb") as file:
        file.seek(_HEADER.size + 4 * len(tokens))
        n_read = file.readinto(state.data)
    if n_read != header.size or zlib.crc32(state.data) != header.checksum:
        raise UnusableFileError("its state is damaged")
    return state


def _token_bytes(tokens: np.ndarray) -> bytes:
    return tokens.astype("<i4").tobytes()
