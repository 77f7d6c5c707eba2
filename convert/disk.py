"""Whether there is room, asked before the work starts; and files that are whole or not there."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from convert.errors import DiskSpaceError

_SPARE_BYTES = 64 << 20
"""Left free on the disk beyond what is needed."""


def human_size(n_bytes: int) -> str:
    """A size as people write it: 13.5 GB."""
    size = float(n_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def require_disk(folder: Path, n_bytes: int, purpose: str) -> None:
    """Check that `folder`, or the parent that it will be made in, has room.

    Raises:
        DiskSpaceError: says how much is needed for what, and how much there is.
    """
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if n_bytes + _SPARE_BYTES > free:
        raise DiskSpaceError(
            f"{purpose} needs {human_size(n_bytes)} in {folder}, which has {human_size(free)} free"
        )


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
