"""Real servers in processes of their own, and the official OpenAI client."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.servers import free_port
from tests.conftest import THREADS


@dataclass(frozen=True)
class Server:
    """A running server. Its clients are closed with it."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    closing: ExitStack

    @cached_property
    def http(self) -> httpx.Client:
        return self.closing.enter_context(httpx.Client(base_url=self.url, timeout=600))

    def client(self, api_key: str = "none") -> OpenAI:
        client = OpenAI(base_url=f"{self.url}/v1", api_key=api_key, max_retries=0, timeout=600)
        return self.closing.enter_context(client)

    def choices(self, body: dict[str, Any]) -> object:
        """Of a completion, asked for over a connection of its own."""
        return httpx.post(f"{self.url}/v1/completions", json=body, timeout=60).json()["choices"]

    def metric(self, name: str, **labels: str) -> float:
        """Value of a metric, summed over what the labels leave open."""
        total = 0.0
        text = self.http.get("/metrics").text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if (
                    sample.name == f"llama_medusa_{name}"
                    and labels.items() <= sample.labels.items()
                ):
                    total += sample.value
        return total

    def wait_for(self, name: str, value: float, **labels: str) -> None:
        """Wait until a metric is at least so much: a step is counted after its answers are sent."""
        while self.metric(name, **labels) < value:
            time.sleep(0.01)

    def wait_idle(self) -> None:
        """Wait until nothing runs and nothing waits; the last step may not be counted yet."""
        while self.metric("active_slots") or self.metric("queue_length"):
            time.sleep(0.01)


@contextmanager
def running_server(
    folder: Path,
    *options: str,
    until: Callable[[httpx.Response], bool] | None = None,
    program: Sequence[str] = ("-m", "app", "serve"),
) -> Iterator[Server]:
    """Start `llama-medusa serve` and wait until it is ready (or until a /health answer fits)."""
    port = free_port()
    log = folder / f"server-{port}.log"
    settings = ["--port", str(port), "--threads", str(THREADS), *options]
    command = [sys.executable, *program, *settings]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "COLUMNS": "200"}
        )
    clients = ExitStack()
    server = Server(f"http://127.0.0.1:{port}", process, log, clients)
    ready = until or (lambda answer: answer.status_code == 200)
    try:
        while True:
            assert process.poll() is None, log.read_text()
            try:
                if ready(httpx.get(f"{server.url}/health")):
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        yield server
    finally:
        clients.close()
        process.send_signal(signal.SIGINT)
        process.wait(60)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The default model with its heads and four slots."""
    with running_server(tmp_path_factory.mktemp("server"), "--parallel", "4") as server:
        yield server


@pytest.fixture(scope="session")
def client(server: Server) -> OpenAI:
    return server.client()
