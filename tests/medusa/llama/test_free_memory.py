"""Memory is what the machine has, less what cgroups forbid."""

from pathlib import Path

import pytest

from medusa.llama import free_memory

MEMINFO = "MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable: 5000 kB\nSwapFree: 1000 kB\n"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def of_host(root: Path) -> int | None:
    return free_memory.of_host(root / "proc", root / "cgroup")


def test_without_cgroups_it_is_what_the_kernel_says(tmp_path: Path) -> None:
    write(tmp_path, {"proc/meminfo": MEMINFO})
    assert of_host(tmp_path) == 6000 * 1024


def test_another_system_is_not_judged(tmp_path: Path) -> None:
    assert of_host(tmp_path) is None


@pytest.mark.parametrize("folder", ["a/b", "a", "."])
def test_the_narrowest_cgroup_counts(tmp_path: Path, folder: str) -> None:
    limited = {"memory.max": "3000", "memory.current": "2500", "memory.stat": "anon 1\n"}
    free = {"memory.max": "max", "memory.current": "7", "memory.stat": "anon 7\n"}
    write(tmp_path, {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/a/b\n"})
    for each in ("a/b", "a", "."):
        files = limited if each == folder else free
        write(tmp_path, {f"cgroup/{each}/{name}": text for name, text in files.items()})
    assert of_host(tmp_path) == 500


def test_cached_files_are_given_up(tmp_path: Path) -> None:
    statistics = "anon 500\ninactive_file 1200\nactive_file 800\n"
    write(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/\n",
            "cgroup/memory.max": "3000",
            "cgroup/memory.current": "2500",
            "cgroup/memory.stat": statistics,
        },
    )
    assert of_host(tmp_path) == 2500


def test_cgroups_of_version_1_count_too(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "5:cpu:/x\n4:memory:/a\n0::/\n",
            "cgroup/memory/a/memory.limit_in_bytes": "4000",
            "cgroup/memory/a/memory.usage_in_bytes": "3000",
            "cgroup/memory/a/memory.stat": "active_file 5\ntotal_active_file 20\n",
        },
    )
    assert of_host(tmp_path) == 1020


def test_a_cgroup_that_is_full_leaves_nothing(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/\n",
            "cgroup/memory.max": "3000",
            "cgroup/memory.current": "3500",
            "cgroup/memory.stat": "",
        },
    )
    assert of_host(tmp_path) == 0
