"""Keeping failures where they cost speed only: guesses cannot change what is generated."""

import logging
from collections import Counter
from types import TracebackType
from typing import Self

_STRIKES = 3
"""So many failures in a row of one thing that a part does are taken for a fault that stays."""

log = logging.getLogger(__name__)


class Fuse:
    """Swallows the exceptions of one part of drafting, and blows if they do not stop.

    Use as `with fuse("what is done"): ...`, one block at a time. The first failure is logged with
    its traceback, and so is the end; what comes between is only counted.

    Args:
        part: its name in the log.
    """

    def __init__(self, part: str) -> None:
        self.failures = 0
        self.blown = False  # the part should not be used any more
        self._part = part
        self._doing = ""
        self._in_a_row: Counter[str] = Counter()

    def __call__(self, doing: str) -> Self:
        """Name what the block does."""
        self._doing = doing
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None:
            self._in_a_row[self._doing] = 0
            return False
        if not isinstance(error, Exception):
            return False
        self.failures += 1
        self._in_a_row[self._doing] += 1
        if self.failures == 1:
            log.error(
                "drafting: %s failed while %s; requests go on without its guesses",
                self._part,
                self._doing,
                exc_info=error,
            )
        if self._in_a_row[self._doing] == _STRIKES and not self.blown:
            self.blown = True
            log.error(
                "drafting: %s failed %d times in a row and is switched off: %s",
                self._part,
                _STRIKES,
                error,
            )
        return True
