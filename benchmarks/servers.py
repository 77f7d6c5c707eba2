"""Real servers with the default model, each a process of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

_START_SECONDS = 120


@contextmanager
def server(*options: str, kernels: str = "auto") -> Iterator[str]:
    """Start a server, wait until it is ready, and give its address.

    Args:
        options: of `serve`.
        kernels: auto: ours, where they fit; off: llama.cpp's.
    """
    url = f"http://127.0.0.1:{(port := _free_port())}"
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "serve", "--port", str(port), *options],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "LLAMA_MEDUSA_KERNELS": kernels},
    )
    try:
        _wait_until_ready(process, url)
        yield url
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the server at {url} did not start")
