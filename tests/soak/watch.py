"""What a process holds, from time to time: memory, threads, descriptors."""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Sample:
    """At some time."""

    seconds: float  # since the start
    megabytes: float  # resident
    threads: int
    descriptors: int


class Watch:
    """Samples a process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began = time.monotonic()
        self.samples: list[Sample] = []

    def sample(self) -> Sample:
        """Look at it now."""
        status = Path(f"/proc/{self._pid}/status").read_text()
        values = dict(line.split(":", 1) for line in status.splitlines())
        sample = Sample(
            seconds=time.monotonic() - self._began,
            megabytes=int(values["VmRSS"].split()[0]) / 1024,
            threads=int(values["Threads"]),
            descriptors=len(os.listdir(f"/proc/{self._pid}/fd")),
        )
        self.samples.append(sample)
        return sample

    async def run(self, every: float) -> None:
        """Look at it again and again, until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(every)

    def slope(self, warm_up: float) -> float:
        """Megabytes a minute by least squares, after so many seconds."""
        late = [sample for sample in self.samples if sample.seconds >= warm_up]
        if len(late) < 2:
            return 0.0
        minutes = [sample.seconds / 60 for sample in late]
        return float(np.polyfit(minutes, [sample.megabytes for sample in late], 1)[0])

    def plot(self, path: Path) -> None:
        """Draw all samples."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4))
        axes = figure.subplots()
        minutes = [sample.seconds / 60 for sample in self.samples]
        axes.plot(minutes, [sample.megabytes for sample in self.samples], label="resident MB")
        axes.set_xlabel("minutes")
        axes.set_ylabel("MB")
        other = axes.twinx()
        other.plot(minutes, [s.descriptors for s in self.samples], "C1", label="descriptors")
        other.plot(minutes, [s.threads for s in self.samples], "C2", label="threads")
        figure.legend(loc="upper center", ncols=3)
        figure.savefig(path, dpi=100)
