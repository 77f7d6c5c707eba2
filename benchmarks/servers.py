"""Servers to measure, each a process of its own."""

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

EMITTED = "llama_medusa_generated_tokens_total"
"""The sample that counts the tokens our server has generated."""

_START_SECONDS = 180
_STOP_SECONDS = 30
_PORTS = count(random.randrange(10_000, 30_000))
"""Below those that the system gives out by itself, which on Linux begin at 32,768."""


@contextmanager
def server(*options: str) -> Iterator[str]:
    """Our server with the default model: start it, wait until it is ready, and give its address.

    Args:
        options: of `serve`.
    """
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "app", "serve", "--port", str(port), *options]
    with started(command, lambda: httpx.get(f"{url}/health").is_success):
        yield url


@contextmanager
def started(
    command: Sequence[str],
    is_ready: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    log: Path | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server that is ready, and is stopped in the end.

    Args:
        command: what starts it.
        is_ready: asks it; transport errors mean that it is not.
        environment: variables beside ours.
        folder: where it runs, None: here.
        log: where its output goes, None: its errors to ours.

    Raises:
        RuntimeError: it has ended, or is not ready after three minutes.
    """
    with open(log or os.devnull, "wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output if log else None,
            env={**os.environ, **(environment or {})},
            cwd=folder,
        )
        try:
            _wait(process, is_ready, command)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def counted(url: str, *names: str) -> dict[str, float]:
    """What our server has counted so far, of metrics without labels, by the samples' names."""
    text = httpx.get(f"{url}/metrics", timeout=60).text
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in names
    }


def free_port() -> int:
    """A port that nobody has, nor is given by the system before it is used."""
    while True:
        port = next(_PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _wait(
    process: "subprocess.Popen[bytes]", is_ready: Callable[[], bool], command: Sequence[str]
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if is_ready():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"it did not start: {' '.join(command)}")
