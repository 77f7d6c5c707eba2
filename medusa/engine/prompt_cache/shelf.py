"""Which texts are kept, and which of them helps a prompt most. Pure bookkeeping."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medusa.engine.memory import MemoryRules
from medusa.engine.prefixes import PrefixKey
from medusa.llama.adapters import AdapterSet

WORTH_KEEPING = 32
"""Tokens from which on it pays to copy their state rather than to compute them again."""

_COPIES = 16
"""So many tokens are copied in less than the time in which one is computed."""


@dataclass(eq=False)
class Entry:
    """A text whose state is kept, in RAM, in a file, or in both."""

    adapters: AdapterSet
    tokens: np.ndarray  # [n] int32
    size: int  # of the state, in bytes
    state: np.ndarray | None = None  # [size] uint8
    path: Path | None = None


@dataclass(frozen=True)
class Stored:
    """An entry, and how many of its first tokens a prompt can go on from."""

    entry: Entry
    usable: int


class Shelf:
    """Entries, the least recently used first.

    Args:
        rules: what the model's memory allows.
        limit: bytes of RAM for states.
    """

    def __init__(self, rules: MemoryRules, limit: int) -> None:
        self._rules = rules
        self._limit = limit
        self._entries: dict[Entry, None] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry: Entry) -> bool:
        return entry in self._entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries))

    @property
    def n_bytes(self) -> int:
        """RAM that states take."""
        return sum(entry.size for entry in self if entry.state is not None)

    def find(self, key: PrefixKey, beyond: int, allowed: Callable[[Entry], bool]) -> Stored | None:
        """The entry that saves a prompt most, if any saves more than loading it takes.

        Args:
            key: what the prompt begins with.
            beyond: tokens of it that can be had otherwise.
            allowed: whether an entry may be used now.
        """
        tokens = np.asarray(key.tokens, np.int32)
        last = beyond + WORTH_KEEPING - 1  # of the fewest tokens that help
        best, most = None, 0.0
        for entry in self:
            shorter = min(len(tokens), len(entry.tokens))
            if shorter <= last or entry.tokens[last] != tokens[last]:
                continue
            usable = self._usable(entry, key.adapters, tokens)
            gain = usable - beyond
            saved = gain - len(entry.tokens) / _COPIES
            if gain >= WORTH_KEEPING and saved > most and allowed(entry):
                best, most = Stored(entry, usable), saved
        return best

    def covers(self, key: PrefixKey) -> bool:
        """Whether a text can be had from an entry; that one then is used most recently."""
        tokens = np.asarray(key.tokens, np.int32)
        for entry in self:
            if self._usable(entry, key.adapters, tokens) == len(tokens):
                self.touch(entry)
                return True
        return False

    def add(self, entry: Entry) -> list[Entry]:
        """Take in an entry; returns those that it makes needless, which are dropped."""
        needless = [
            other
            for other in self
            if self._usable(entry, other.adapters, other.tokens) == len(other.tokens)
        ]
        for other in needless:
            self.remove(other)
        self._entries[entry] = None
        self.make_room(0)
        return needless

    def touch(self, entry: Entry) -> None:
        """Note that an entry was of use."""
        self._entries.pop(entry)
        self._entries[entry] = None

    def remove(self, entry: Entry) -> None:
        """Forget an entry and its state; what is not here does not matter."""
        self._entries.pop(entry, None)
        entry.state = None

    def release(self, entry: Entry) -> None:
        """Give back an entry's RAM, and forget it unless there is a file of it."""
        entry.state = None
        if entry.path is None:
            self.remove(entry)

    def make_room(self, size: int) -> None:
        """Give back RAM until there is room for so many bytes more."""
        excess = self.n_bytes + size - self._limit
        for entry in self:
            if excess <= 0:
                break
            if entry.state is not None:
                excess -= entry.size
                self.release(entry)

    def _usable(self, entry: Entry, adapters: AdapterSet, tokens: np.ndarray) -> int:
        """How many of some tokens [n] int32 can be had from an entry."""
        if entry.adapters != adapters:
            return 0
        cached = len(entry.tokens)
        shorter = min(cached, len(tokens))
        differ = np.flatnonzero(entry.tokens[:shorter] != tokens[:shorter])
        common = int(differ[0]) if len(differ) else shorter
        # Of layers with sliding windows, what the next token cannot see is not kept.
        first = max(0, cached - self._rules.window) if self._rules.window else 0
        return self._rules.usable_prefix(common, cached, first)
