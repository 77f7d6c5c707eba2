"""What a server takes of the machine: processor time, memory, energy. Linux tells; else None."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Processes:
    """A process and all that descend from it."""

    pid: int

    def cpu_seconds(self) -> float | None:
        """Processor time of all so far, those that have ended and were waited for included."""
        if not _PROC.is_dir():
            return None
        ticks = os.sysconf("SC_CLK_TCK")
        return sum(sum(map(int, fields[11:15])) for fields in map(_stat, self.pids())) / ticks

    def peak_memory_mb(self) -> float | None:
        """Sum of the most that each had resident, model files included that it mapped."""
        if not _PROC.is_dir():
            return None
        return sum(map(_peak_kb, self.pids())) * 1024 / 1e6

    def first_thread_seconds(self) -> float:
        """Processor time of the first thread of the first process (Linux, to the nanosecond)."""
        told = (_PROC / f"{self.pid}/task/{self.pid}/schedstat").read_text()
        return int(told.split()[0]) / 1e9

    def pause(self) -> None:
        """Let none of them use the processor."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Undo `pause`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def pids(self) -> list[int]:
        """Their ids, its own first."""
        children: dict[int, list[int]] = {}
        for folder in _PROC.glob("[0-9]*"):
            if fields := _stat(int(folder.name)):
                children.setdefault(int(fields[1]), []).append(int(folder.name))
        return list(_below(self.pid, children))


def joules() -> float | None:
    """Energy that the processor packages have used so far (RAPL), None where it is not told."""
    counters = list(_POWERCAP.glob("intel-rapl:[0-9]/energy_uj"))
    try:
        return sum(int(path.read_text()) for path in counters) / 1e6 if counters else None
    except OSError:  # only root may read it
        return None


def since(before: float | None, now: float | None) -> float | None:
    """What a counter has gained; None where it is not told, or began anew."""
    return now - before if before is not None and now is not None and now >= before else None


def _below(pid: int, children: dict[int, list[int]]) -> Iterator[int]:
    yield pid
    for child in children.get(pid, ()):
        yield from _below(child, children)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on (the third of proc(5)); none: it has ended."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _peak_kb(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
