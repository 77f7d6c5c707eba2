"""Care for the teams of threads that llama.cpp computes with through OpenMP."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def with_passing_team(compute: Callable[[], Result]) -> Result:
    """Call a function that computes with ggml in a thread of its own, and wait for it.

    OpenMP keeps a team of threads for every thread that ever asked for one. Once there are more
    members than cores, libgomp lets all teams sleep instead of spin when they wait
    (`gomp_managed_threads` in its source), and a decode takes up to twice as long. A team ends
    with the thread that it belongs to.
    """
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(compute).result()
