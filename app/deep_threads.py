"""Threads for work that recurses deeply in C++."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from medusa.errors import EngineStoppedError

T = TypeVar("T")

N_THREADS = 2  # a long text does not hold up a short one

_ORDINARY_STACK = 8 << 20
_PAGE = 4096

_starting = threading.Lock()


class DeepThreads:
    """A few threads with large stacks, beside the event loop.

    llama.cpp cuts text with std::regex, which calls itself for each character of a run: 40 KB of
    one letter overflow an ordinary stack of 8 MB, and that ends the process.

    Args:
        stack: bytes by which stacks are larger than that; address space, of which memory is taken
            only as deep as a call has been.
    """

    def __init__(self, stack: int) -> None:
        self._closed = False
        self._executor = ThreadPoolExecutor(N_THREADS, thread_name_prefix="deep")
        # A thread's stack is as large as threading.stack_size says when it starts. That holds for
        # the whole process, so all of ours start here and now.
        everyone = threading.Barrier(N_THREADS)
        with _starting:
            before = threading.stack_size(_ORDINARY_STACK + stack // _PAGE * _PAGE)
            try:
                wait([self._executor.submit(everyone.wait) for _ in range(N_THREADS)])
            except RuntimeError:  # no memory for so many stacks
                everyone.abort()
                self._executor.shutdown(wait=False)
                raise
            finally:
                threading.stack_size(before)

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises.

        Raises:
            EngineStoppedError: the threads were closed before its turn came.
        """
        stopped = EngineStoppedError("the server is shutting down")
        try:
            future = self._executor.submit(work)
        except RuntimeError:
            raise stopped from None
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if self._closed:
                raise stopped from None
            raise

    def close(self) -> None:
        """Wait for the running work and end the threads; what waits for its turn is given up."""
        self._closed = True
        self._executor.shutdown(cancel_futures=True)
