"""Saved texts on disk: a folder within a limit, read and written by a thread of its own.

The engine's thread asks, and takes the results when it comes by. Nothing here raises: what goes
wrong is logged, and costs what the file would have saved.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medusa.engine.prompt_cache import files
from medusa.engine.prompt_cache.files import UnusableFileError
from medusa.engine.prompt_cache.shelf import Entry

log = logging.getLogger("medusa.engine")


@dataclass(frozen=True)
class Written:
    """An entry was written to a file; None: it was not."""

    entry: Entry
    path: Path | None


@dataclass(frozen=True)
class Loaded:
    """An entry's state was read, [size] uint8; None: it could not be."""

    entry: Entry
    state: np.ndarray | None


@dataclass(frozen=True)
class Removed:
    """A file had to go."""

    path: Path


Result = Written | Loaded | Removed


@dataclass(frozen=True)
class FileOnDisk:
    """A file that counts towards the limit."""

    path: Path
    size: int
    used: float  # when it last was, in seconds


def too_many(present: Iterable[FileOnDisk], size: int, limit: int) -> list[FileOnDisk]:
    """Which files must go, the least recently used first, so that `size` bytes more have room."""
    present = sorted(present, key=lambda file: file.used)
    excess = sum(file.size for file in present) + size - limit
    gone = []
    for file in present:
        if excess <= 0:
            break
        gone.append(file)
        excess -= file.size
    return gone


class Disk:
    """A folder of saved texts, and the thread that reads and writes it.

    Several models and processes may share a folder; its limit is for all their files.

    Args:
        folder: made if need be.
        identity: 32 bytes: of the model and the settings that states depend on.
        limit: in bytes.
        wake: called in the thread when there are results.
    """

    def __init__(self, folder: Path, identity: bytes, limit: int, wake: Callable[[], None]) -> None:
        self._folder = folder
        self._identity = identity
        self._limit = limit
        self._wake = wake
        self._jobs: deque[Callable[[], None]] = deque()
        self._results: deque[Result] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._is_failing = False  # whether the last file could not be written
        self._thread = threading.Thread(target=self._run, name="medusa-prompts", daemon=True)
        self._thread.start()

    def __str__(self) -> str:
        return f"{self._limit / 2**30:.1f} GiB in {self._folder}"

    @property
    def has_results(self) -> bool:
        """Whether `results` has any."""
        return bool(self._results)

    def entries(self) -> list[Entry]:
        """What is in the folder for this model and these settings, least recently used first."""
        found = []
        for file in sorted(self._present(), key=lambda file: file.used):
            if file.path.name.startswith(files.prefix_of(self._identity)):
                try:
                    header = files.read_header(file.path, self._identity)
                except (OSError, UnusableFileError) as error:
                    log.warning("the saved prompt %s is ignored: %s", file.path, error)
                else:
                    found.append(Entry((), header.tokens, header.size, path=file.path))
        return found

    def write(self, entry: Entry) -> None:
        """Ask for an entry to be written, unless its state is given up before its turn comes."""
        self._ask(lambda: self._write(entry))

    def load(self, entry: Entry) -> None:
        """Ask for an entry's state, before anything else is done."""
        self._ask(lambda: self._load(entry), at_once=True)

    def remove(self, path: Path) -> None:
        """Ask for a file to be removed."""
        self._ask(lambda: path.unlink(missing_ok=True))

    def touch(self, path: Path) -> None:
        """Note that a file was of use."""
        self._ask(lambda: os.utime(path))

    def results(self) -> list[Result]:
        """What has been done since the last call."""
        return [self._results.popleft() for _ in range(len(self._results))]

    def close(self, seconds: float) -> None:
        """Do what was asked for, for so long at most, and stop."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            self._jobs.clear()

    def _ask(self, job: Callable[[], None], *, at_once: bool = False) -> None:
        with self._changed:
            (self._jobs.appendleft if at_once else self._jobs.append)(job)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._jobs or self._is_closing):
                    self._changed.wait()
                if not self._jobs:
                    return
                job = self._jobs.popleft()
            try:
                job()
            except FileNotFoundError:
                log.debug("another process has removed a saved prompt", exc_info=True)
            except OSError as error:
                log.warning("a saved prompt: %s", error)

    def _tell(self, result: Result) -> None:
        self._results.append(result)
        self._wake()

    def _write(self, entry: Entry) -> None:
        state = entry.state
        path = self._folder / files.file_name(self._identity, entry.tokens)
        written = False
        try:
            if state is not None:
                written = self._write_state(path, entry.tokens, state)
        except Exception as error:
            if not self._is_failing:
                log.warning("prompts cannot be saved in %s: %s", self._folder, error)
            self._is_failing = True
        finally:
            self._tell(Written(entry, path if written else None))

    def _write_state(self, path: Path, tokens: np.ndarray, state: np.ndarray) -> bool:
        size = files.file_size(tokens, state.nbytes)
        if size > self._limit:
            return False
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in too_many(self._present(), size, self._limit):
            file.path.unlink(missing_ok=True)
            self._tell(Removed(file.path))
        files.write(path, self._identity, tokens, state)
        self._is_failing = False
        return True

    def _load(self, entry: Entry) -> None:
        state = None
        try:
            assert entry.path is not None
            state = files.read_state(entry.path, self._identity, entry.tokens)
            os.utime(entry.path)
        except Exception as error:
            log.warning("the saved prompt %s is ignored: %s", entry.path, error)
        finally:
            self._tell(Loaded(entry, state))

    def _present(self) -> list[FileOnDisk]:
        """Our files in the folder, also those that are being written."""
        present = []
        for path in self._folder.glob(f"*{files.SUFFIX}*"):
            try:
                status = path.stat()
            except OSError:  # another process has removed it
                continue
            present.append(FileOnDisk(path, status.st_size, status.st_mtime))
        return present
