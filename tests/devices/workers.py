"""Workers in processes of their own."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.servers import free_port
from medusa.llama import ggml
from medusa.llama.build import lacking

needs_rpc = pytest.mark.skipif(
    bool(lacking(["rpc"], ggml.folder())), reason="this llama.cpp was built without RPC"
)


@dataclass(frozen=True)
class Worker:
    """A running worker."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def running_worker(folder: Path, *options: str, port: int | None = None) -> Iterator[Worker]:
    """Start `llama-medusa worker` and wait until it listens."""
    port = port or free_port()
    log = folder / f"worker-{port}.log"
    command = [sys.executable, "-m", "app", "worker", "--port", str(port), "-t", "1", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield Worker(port, process, log)
    finally:
        process.terminate()
        process.wait(60)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True
