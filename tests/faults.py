"""Faults at named points of a running engine, for tests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from medusa.engine.engine import Engine
from medusa.llama.context import Context


@dataclass
class Fault:
    """What goes wrong, and when: at calls `first` to `first + times - 1`, counted from 0.

    `guilty` names a token: only batches that hold it fail.
    """

    make: Callable[[], int]  # the status that llama_decode returns instead of running; may raise
    first: int = 0
    times: int = 1
    guilty: int | None = None
    calls: int = 0
    happened: int = 0

    def strikes(self, tokens: list[int]) -> bool:
        if self.guilty is not None and self.guilty not in tokens:
            return False
        self.calls += 1
        strikes = self.first < self.calls <= self.first + self.times
        self.happened += strikes
        return strikes


class FaultyLibrary:
    """llama.cpp, but for its llama_decode."""

    def __init__(self, real: Any, fault: Fault) -> None:
        self._real = real
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def llama_decode(self, handle: Any, batch: Any) -> int:
        if self._fault.strikes(batch.token[: batch.n_tokens]):
            return self._fault.make()
        return int(self._real.llama_decode(handle, batch))


def inject(engine: Engine, fault: Fault, patch: pytest.MonkeyPatch) -> None:
    """Let llama_decode fail in this engine."""
    context: Context = engine._context
    patch.setattr(context, "_lib", FaultyLibrary(context._lib, fault))


def status(number: int) -> Callable[[], int]:
    """llama_decode returns this."""
    return lambda: number


def raising(error: BaseException) -> Callable[[], int]:
    def make() -> int:
        raise error

    return make
