"""How much memory this process may still take: of the machine, of its cgroups."""

from pathlib import Path

_CGROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat"),  # version 2
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"),  # version 1
)
"""Limit, use and statistics of a cgroup, https://docs.kernel.org/admin-guide/cgroup-v2.html."""


def of_host(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes of RAM and swap that can be had, files in the page cache given up; None: unknown.

    Args:
        proc: the proc file system.
        cgroups: where the cgroups' files are.
    """
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        kilobytes = {name: int(rest.split()[0]) for name, rest in (x.split(":") for x in lines)}
        free = 1024 * (kilobytes["MemAvailable"] + kilobytes.get("SwapFree", 0))
    except (OSError, ValueError, LookupError):
        return None
    return max(0, min([free, *_left_in_cgroups(proc, cgroups)]))


def _left_in_cgroups(proc: Path, cgroups: Path) -> list[int]:
    """What each cgroup above this process still allows, in bytes."""
    try:
        entries = [line.split(":", 2) for line in (proc / "self/cgroup").read_text().splitlines()]
    except OSError:
        return []
    left = []
    for _, controllers, name in entries:
        if controllers and "memory" not in controllers.split(","):
            continue
        root = cgroups / controllers
        own = root / name.lstrip("/")
        for folder in (own, *own.parents):
            left += [_left(folder, *files) for files in _CGROUP_FILES]
            if folder == root:
                break
    return [each for each in left if each is not None]


def _left(folder: Path, limit: str, use: str, statistics: str) -> int | None:
    """What one cgroup still allows; its files in the page cache are given up when needed."""
    try:
        most = int((folder / limit).read_text())
        used = int((folder / use).read_text())
        lines = (folder / statistics).read_text().splitlines()
        held = dict(line.split() for line in lines)
        # Version 1 counts its children in the entries that begin with total_.
        cached = sum(
            int(held.get(f"total_{name}", held.get(name, 0)))
            for name in ("inactive_file", "active_file")
        )
    except (OSError, ValueError):
        return None
    return most - used + cached
