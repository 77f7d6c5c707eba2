"""How many threads compute, and care for the teams they form through OpenMP."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def default_threads() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def with_passing_team(compute: Callable[[], Result]) -> Result:
    """Call a function that computes with ggml in a thread of its own, and wait for it.

    OpenMP keeps a team of threads for every thread that ever asked for one. Once there are more
    members than cores, libgomp lets all teams sleep instead of spin when they wait
    (`gomp_managed_threads` in its source), and a decode takes up to twice as long. A team ends
    with the thread that it belongs to.
    """
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(compute).result()
