"""Files that are whole or not there, and the checksums beside them."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to that becomes `path` when all went well and is removed when not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """A file's SHA-256, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum_path(path: Path) -> Path:
    """Where a file's checksum lies: beside it."""
    return path.with_name(path.name + ".sha256")


def write_checksum(path: Path) -> None:
    """Note a file's SHA-256 beside it, for `sha256sum --check` and for us."""
    with whole_file(checksum_path(path)) as partial:
        partial.write_text(f"{sha256_of(path)}  {path.name}\n", "utf-8")


def noted_checksum(path: Path) -> str | None:
    """What `write_checksum` noted of a file; None: nothing."""
    noted = checksum_path(path)
    return noted.read_text("utf-8").partition(" ")[0] if noted.is_file() else None
