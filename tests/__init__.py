"""Each of the processes that share the tests keeps to cores of its own, with all that it starts.

Threads that compute wait for each other spinning, and an engine counts what a decode costs: two
servers on the same cores would take several times as long, and guess as no server does.
"""

import os


def _keep_to_own_cores() -> None:
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if count > 1 and hasattr(os, "sched_setaffinity"):
        number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) % count
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[number::count] or [cores[number % len(cores)]])


_keep_to_own_cores()  # before NumPy and others ask how many there are
