"""A server that is compared: how it is started and set, and one that runs."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.compare.measuring import Processes
from benchmarks.servers import free_port, started

SLOTS = 16
"""Requests at a time where a server has a setting for it: as many as there are clients at most."""
CONTEXT = 2048
"""Tokens that one of them may use."""


@dataclass(frozen=True)
class Peer:
    """A server, not yet started.

    Attributes:
        name: in reports.
        version: of the software.
        command: what starts it; `{port}` stands for the port. Empty: it runs, at `url`.
        axes: settings to choose from, each as its alternatives, the default first.
        chosen: place of what is chosen of each axis; empty: the defaults.
        environment: variables it needs.
        folder: where it is started, None: here.
        prepare: a command that must have run once it answers.
        url: of one that runs already.
    """

    name: str
    version: str
    command: tuple[str, ...] = ()
    axes: tuple[tuple[tuple[str, ...], ...], ...] = ()
    chosen: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    prepare: tuple[str, ...] = ()
    url: str = ""

    @property
    def options(self) -> tuple[str, ...]:
        """What is chosen of each axis, at first the defaults."""
        chosen = self.chosen or (0,) * len(self.axes)
        pairs = zip(self.axes, chosen, strict=True)
        return tuple(option for axis, place in pairs for option in axis[place])

    @property
    def launch(self) -> tuple[str, ...]:
        """The command with its options."""
        return (*self.command, *self.options)


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes:
        name: in reports.
        url: without `/v1`.
        model: its name there.
        processes: those of the server, None where they are not ours.
    """

    name: str
    url: str
    model: str
    processes: Processes | None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Run it; outside of this context it does not use the processor."""
        if self.processes:
            self.processes.go_on()
        try:
            yield
        finally:
            if self.processes:
                self.processes.pause()


@contextmanager
def running(peer: Peer, logs: Path) -> Iterator[Running]:
    """Start a server, paused until it is its turn, and stop it in the end.

    Args:
        peer: the server.
        logs: folder for what it writes.

    Raises:
        RuntimeError: it does not start.
        subprocess.CalledProcessError: `prepare` failed.
    """
    if not peer.command:
        yield Running(peer.name, peer.url, _model(peer.url), None)
        return
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    environment = {name: value.replace("{port}", port) for name, value in peer.environment.items()}
    command = [part.replace("{port}", port) for part in peer.launch]
    log = logs / f"{peer.name.replace(' ', '-')}-{port}.log"
    with started(
        command, lambda: _answers(url), environment=environment, folder=peer.folder, log=log
    ) as process:
        if peer.prepare:
            subprocess.run(peer.prepare, env={**os.environ, **environment}, check=True)
        processes, model = Processes(process.pid), _model(url)
        processes.pause()
        try:
            yield Running(peer.name, url, model, processes)
        finally:
            processes.go_on()


def _answers(url: str) -> bool:
    """Whether it has loaded what it serves: /v1/models alone answers earlier."""
    health = httpx.get(f"{url}/health", timeout=60)
    return health.status_code != 503 and httpx.get(f"{url}/v1/models", timeout=60).is_success


def _model(url: str) -> str:
    name: str = httpx.get(f"{url}/v1/models", timeout=60).json()["data"][0]["id"]
    return name
