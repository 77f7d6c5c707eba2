"""What slots lose is kept, within limits, and given back to prompts that begin with it.

Runs in the engine's thread, as llama.cpp copies the states; files are another thread's
(`disk.Disk`).
"""

import logging
import math
import time
from dataclasses import dataclass

import numpy as np

from medusa.engine.memory import MemoryRules
from medusa.engine.prefixes import PrefixKey
from medusa.engine.prompt_cache.disk import Disk, Loaded, Removed, Result, Written
from medusa.engine.prompt_cache.shelf import WORTH_KEEPING, Entry, Shelf, Stored
from medusa.engine.slot import Slot
from medusa.errors import DecodeError

log = logging.getLogger("medusa.engine")

_FIRST_SPEED = 2.0**30
"""Bytes a second that are copied, as long as nothing was."""


@dataclass(frozen=True)
class PromptCacheStats:
    """What is kept: texts, and bytes of their states in RAM; of how many there may be, in words."""

    texts: int = 0
    n_bytes: int = 0
    limits: str = "off"


class PromptCache:
    """States of texts beside the KV cache.

    Args:
        rules: what the model's memory allows.
        limit: bytes of RAM; 0: nothing is kept.
        max_stall: seconds a step for which saving may hold up running requests.
        disk: keeps what RAM has no room for, and what is to outlive the process.

    Attributes:
        limit: see above.
    """

    def __init__(
        self, rules: MemoryRules, limit: int, max_stall: float = 0.25, disk: Disk | None = None
    ) -> None:
        self.limit = limit
        self._max_stall = max_stall
        self._disk = disk
        self._shelf = Shelf(rules, limit)
        self._limits = _in_words(limit, disk)
        self._loading: Entry | None = None
        self._speed = _FIRST_SPEED
        self._seconds_left = math.inf  # for saving in this step
        self._restored: list[int] = []
        for entry in disk.entries() if disk is not None else ():
            if entry.size <= limit:
                self._shelf.add(entry)

    @property
    def stats(self) -> PromptCacheStats:
        """How full it is; any thread may ask."""
        return PromptCacheStats(len(self._shelf), self._shelf.n_bytes, self._limits)

    @property
    def is_reading(self) -> bool:
        """Whether a state is read from disk for a prompt."""
        return self._loading is not None

    @property
    def is_waiting(self) -> bool:
        """Whether nothing has come of that yet."""
        return self.is_reading and self._disk is not None and not self._disk.has_results

    def take_restored(self) -> tuple[int, ...]:
        """Tokens of each prompt that was helped since the last call."""
        restored, self._restored = tuple(self._restored), []
        return restored

    def begin_step(self, *, busy: bool) -> bool:
        """Take in what the disk has done; whether a state has come, or will not.

        Args:
            busy: whether requests are running that saving would hold up.
        """
        self._seconds_left = self._max_stall if busy else math.inf
        before = self._loading
        for result in self._disk.results() if self._disk is not None else ():
            self._take_in(result)
        return self._loading is not before

    def find(self, key: PrefixKey, beyond: int, *, in_ram: bool) -> Stored | None:
        """The entry that helps a prompt most, if any helps enough.

        Args:
            key: what the prompt begins with.
            beyond: tokens of it that slots have.
            in_ram: whether it must be in RAM, or about to be.
        """
        if not self.limit:
            return None
        return self._shelf.find(
            key,
            beyond,
            lambda entry: not in_ram or entry.state is not None or entry is self._loading,
        )

    def is_ready(self, stored: Stored) -> bool:
        """Whether an entry is in RAM; else it is being read, or will be once others are."""
        entry = stored.entry
        if entry.state is not None:
            return True
        if self._loading is None and self._disk is not None:
            self._shelf.make_room(entry.size)
            self._loading = entry
            self._disk.load(entry)
        return False

    def is_loading(self, stored: Stored) -> bool:
        """Whether an entry is being read from disk."""
        return stored.entry is self._loading

    def keep(self, slot: Slot, covered: int) -> None:
        """Save what a slot holds before it loses it, if that is worth it.

        Args:
            slot: its tokens are still in the KV cache.
            covered: how many of its tokens can be had from slots afterwards.
        """
        if not self.limit or len(slot.tokens) - covered < WORTH_KEEPING:
            return
        key = PrefixKey(slot.adapters, slot.tokens)
        if self._shelf.covers(key):
            return
        size = slot.labels.state_bytes
        seconds = size / self._speed
        if size > self.limit or seconds > self._seconds_left:
            return
        self._shelf.make_room(size)
        began = time.perf_counter()
        try:
            state = slot.labels.save()
        except (DecodeError, MemoryError) as error:
            log.warning("a prompt is not saved: %r", error)
            return
        seconds = time.perf_counter() - began
        self._seconds_left -= seconds
        self._speed += 0.3 * (size / seconds - self._speed)
        self._add(Entry(slot.adapters, np.array(slot.tokens, np.int32), size, state))

    def take(self, stored: Stored) -> np.ndarray:
        """The state of an entry that is ready, [size] uint8, for a slot.

        It does not take RAM here any more if the slot will hold all of it.
        """
        entry = stored.entry
        state = entry.state
        assert state is not None
        self._shelf.touch(entry)
        if self._disk is not None and entry.path is not None:
            self._disk.touch(entry.path)
        if stored.usable == len(entry.tokens):
            self._shelf.release(entry)
        return state

    def restore(self, slot: Slot, stored: Stored, state: np.ndarray) -> None:
        """Have a slot hold what is taken of an entry; nothing if that fails."""
        entry = stored.entry
        try:
            slot.load(entry.tokens.tolist(), entry.adapters, state)
        except DecodeError as error:
            log.warning("a saved prompt is computed again: %s", error)
            self._drop(entry)
        else:
            slot.reuse(stored.usable)
            self._restored.append(stored.usable)

    def close(self, seconds: float) -> None:
        """Finish writing, within so many seconds."""
        if self._disk is not None:
            self._disk.close(seconds)

    def _add(self, entry: Entry) -> None:
        for needless in self._shelf.add(entry):
            self._remove_file(needless)
        if self._disk is not None and not entry.adapters:
            self._disk.write(entry)

    def _drop(self, entry: Entry) -> None:
        self._shelf.remove(entry)
        self._remove_file(entry)

    def _remove_file(self, entry: Entry) -> None:
        if self._disk is not None and entry.path is not None:
            self._disk.remove(entry.path)

    def _take_in(self, result: Result) -> None:
        match result:
            case Loaded(entry, state):
                self._loading = None
                if state is None:
                    self._drop(entry)
                elif entry in self._shelf:
                    self._shelf.make_room(entry.size)
                    entry.state = state
                    self._shelf.touch(entry)
            case Written(entry, path) if path is not None:
                entry.path = path
                if entry in self._shelf:
                    return
                if self._shelf.covers(PrefixKey(entry.adapters, entry.tokens.tolist())):
                    self._remove_file(entry)
                else:
                    self._shelf.add(entry)
            case Removed(path):
                for entry in self._shelf:
                    if entry.path == path:
                        entry.path = None
                        if entry.state is None:
                            self._shelf.remove(entry)


def _in_words(limit: int, disk: Disk | None) -> str:
    if not limit:
        return "off"
    in_ram = f"up to {limit / 2**30:.1f} GiB of RAM"
    return in_ram if disk is None else f"{in_ram}, {disk}"
