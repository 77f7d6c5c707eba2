"""Whether there is room, asked before the work starts."""

import shutil
from collections.abc import Iterable
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
    require_disks([(folder, n_bytes)], purpose)


def require_disks(needs: Iterable[tuple[Path, int]], purpose: str) -> None:
    """The same for several folders, of which some may be on one disk.

    Args:
        needs: folders and the bytes needed in each.
        purpose: of all of them together.

    Raises:
        DiskSpaceError: says how much is needed for what, and how much there is.
    """
    disks: dict[int, tuple[Path, int]] = {}
    for folder, n_bytes in needs:
        existing = _existing(folder)
        device = existing.stat().st_dev
        first, before = disks.get(device, (existing, 0))
        disks[device] = first, before + n_bytes
    for folder, n_bytes in disks.values():
        free = shutil.disk_usage(folder).free
        if n_bytes + _SPARE_BYTES > free:
            raise DiskSpaceError(
                f"{purpose} needs {human_size(n_bytes)} in {folder}, which has "
                f"{human_size(free)} free"
            )


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
