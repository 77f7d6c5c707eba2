"""What one step of the engine did and where its time went."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class StepReport:
    """One step's figures. Times in seconds.

    `llama_seconds` and `heads_seconds` are parts of `seconds`; the rest is the engine's own.
    """

    seconds: float = 0.0
    llama_seconds: float = 0.0
    heads_seconds: float = 0.0
    n_decoding: int = 0  # requests in the decode
    batch_tokens: int = 0  # rows of the decode: their roots and drafts
    prefilled_tokens: int = 0
    emitted_tokens: int = 0
    drafts_proposed: int = 0
    drafts_accepted: int = 0

    @property
    def overhead_seconds(self) -> float:
        """Time spent neither in llama.cpp nor in the heads."""
        return self.seconds - self.llama_seconds - self.heads_seconds


StepObserver = Callable[[StepReport], None]


class StepClock:
    """Takes the times of a step for its report."""

    def __init__(self) -> None:
        self.report = StepReport()
        self._began = 0.0

    def start(self) -> None:
        """Begin a new report."""
        self.report = StepReport()
        self._began = time.perf_counter()

    def stop(self) -> StepReport:
        """The finished report."""
        self.report.seconds = time.perf_counter() - self._began
        return self.report

    @contextmanager
    def llama(self) -> Iterator[None]:
        """Count a block as llama.cpp's time."""
        began = time.perf_counter()
        yield
        self.report.llama_seconds += time.perf_counter() - began

    @contextmanager
    def heads(self) -> Iterator[None]:
        """Count a block as the heads' time."""
        began = time.perf_counter()
        yield
        self.report.heads_seconds += time.perf_counter() - began
