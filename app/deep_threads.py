"""Threads for work that recurses deeply in C++."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")

STACK_BYTES = 512 << 20  # address space; memory is taken only as deep as a call has been
N_THREADS = 2  # a long text does not hold up a short one

_starting = threading.Lock()


class DeepThreads:
    """A few threads with large stacks, beside the event loop.

    llama.cpp cuts text with std::regex, which calls itself for each character of a run: 40 KB of
    one letter overflow an ordinary stack of 8 MB, and that ends the process.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(N_THREADS, thread_name_prefix="deep")
        # A thread's stack is as large as threading.stack_size says when it starts. That holds for
        # the whole process, so all of ours start here and now.
        everyone = threading.Barrier(N_THREADS)
        with _starting:
            before = threading.stack_size(STACK_BYTES)
            try:
                wait([self._executor.submit(everyone.wait) for _ in range(N_THREADS)])
            except RuntimeError:  # no memory for so many stacks
                everyone.abort()
                self._executor.shutdown(wait=False)
                raise
            finally:
                threading.stack_size(before)

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """Wait for the running work and end the threads."""
        self._executor.shutdown()
