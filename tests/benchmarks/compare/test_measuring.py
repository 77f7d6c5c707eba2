"""What processes take of the machine, measured on processes that take it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.compare import measuring
from benchmarks.compare.measuring import Processes, joules, since

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")

_BUSY = "import time\nprint(flush=True)\nwhile True: time.process_time()"
_WITH_CHILD = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {_BUSY!r}])"


@contextmanager
def busy(program: str) -> Iterator[Processes]:
    """A program whose last process uses the processor all the time."""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        processes = Processes(process.pid)
        try:
            yield processes
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def used(processes: Processes, at_least: float) -> float:
    """Waits until that much more processor time was used, and tells how much."""
    before = processes.cpu_seconds()
    assert before is not None
    while (now := processes.cpu_seconds() or 0.0) - before < at_least:
        time.sleep(0.02)
    return now - before


@pytest.mark.parametrize("program", [_BUSY, _WITH_CHILD])
def test_processor_time_of_a_process_and_its_children_is_told(program: str) -> None:
    with busy(program) as processes:
        assert used(processes, 0.1) >= 0.1


@pytest.mark.parametrize("program", [_BUSY, _WITH_CHILD])
def test_who_is_paused_uses_no_processor_time(program: str) -> None:
    with busy(program) as processes:
        processes.pause()
        time.sleep(0.1)  # a signal takes effect at the next tick
        before = processes.cpu_seconds()
        time.sleep(0.3)
        assert processes.cpu_seconds() == before
        processes.go_on()
        used(processes, 0.05)


def test_memory_is_the_most_that_was_resident() -> None:
    allocates = "held = bytearray(b'x') * 100_000_000\nheld = None\n" + _BUSY
    with busy(allocates) as processes, busy(_BUSY) as small:
        most, least = processes.peak_memory_mb(), small.peak_memory_mb()
    assert most is not None
    assert least is not None
    assert 90 < most - least < 120


def test_a_process_that_has_ended_takes_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    gone = Processes(process.pid)
    gone.pause()
    assert (gone.cpu_seconds(), gone.peak_memory_mb()) == (0, 0)


def test_energy_is_summed_over_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_POWERCAP", tmp_path)
    assert joules() is None
    for package, value in ((0, 1_500_000), (1, 500_000)):
        (tmp_path / f"intel-rapl:{package}").mkdir()
        (tmp_path / f"intel-rapl:{package}" / "energy_uj").write_text(f"{value}\n")
    assert joules() == 2.0


def test_a_counter_that_began_anew_tells_nothing() -> None:
    assert since(1.0, 3.5) == 2.5
    assert since(3.5, 1.0) is since(None, 1.0) is since(1.0, None) is None
