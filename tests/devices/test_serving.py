"""Workers come, go and come back; the server outlives it and says so."""

import json
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx

from benchmarks.servers import free_port
from tests.app.conftest import Server, running_server
from tests.devices.workers import Worker, needs_rpc, running_worker

pytestmark = needs_rpc

BODY = {"prompt": "ab", "max_tokens": 8, "ignore_eos": True, "temperature": 0}
ENDLESS = BODY | {"max_tokens": 10**6, "stream": True}


def wait_for(server: Server, status: int, message: str = "") -> None:
    while True:
        with suppress(httpx.TransportError):  # it was asked just as its process ended
            health = httpx.get(f"{server.url}/health", timeout=60)
            if health.status_code == status and message in health.text:
                return
        time.sleep(0.05)


def app(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "app", *arguments], capture_output=True, text=True)


def test_a_server_waits_for_its_worker_and_outlives_it(tmp_path: Path, endless_model: str) -> None:
    port = free_port()
    options = (endless_model, "-c", "200000", "--rpc", f"127.0.0.1:{port}")
    away = f"the worker at 127.0.0.1:{port} cannot be reached"
    with ExitStack() as stack:

        def start_worker() -> Worker:
            return stack.enter_context(running_worker(tmp_path, port=port))

        server = stack.enter_context(
            running_server(tmp_path, *options, until=lambda health: away in health.text)
        )
        worker = start_worker()
        wait_for(server, 200)
        before = server.choices(BODY)
        with server.http.stream("POST", "/v1/completions", json=ENDLESS) as stream:
            lines = stream.iter_lines()
            next(lines)
            worker.kill()
            *_, error, done = filter(None, lines)
        assert json.loads(error.removeprefix("data: "))["error"]["code"] == "server_crashed"
        assert done == "data: [DONE]"
        wait_for(server, 503, away)
        worker = start_worker()
        wait_for(server, 200)
        assert server.choices(BODY) == before
        worker.kill()  # while nobody asks for anything
        wait_for(server, 503, away)
        start_worker()
        wait_for(server, 200)
        assert server.choices(BODY) == before
    log = server.log.read_text()
    assert f"layers on GPU: 2 of 2 on RPC0 (127.0.0.1:{port})" in log
    assert f"{away}: Connection refused; trying again in 1 s" in log
    assert f"the worker at 127.0.0.1:{port} has gone" in log


def test_what_cannot_be_used_ends_in_one_line(tmp_path: Path, endless_model: str) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    refused = app("generate", endless_model, "ab", "--raw", "--rpc", nowhere)
    assert (refused.returncode, refused.stderr) == (
        1,
        f"error: the worker at {nowhere} cannot be reached: Connection refused\n",
    )
    with running_worker(tmp_path) as worker:
        options = ("generate", endless_model, "ab", "--raw", "-n", "4", "--rpc", worker.endpoint)
        unknown = app(*options, "--device", "CUDA0")
        assert unknown.returncode == 1
        assert unknown.stderr == (
            f"error: there is no device 'CUDA0'; there are: RPC0 ({worker.endpoint})\n"
        )
        chosen = app(*options, "--device", "RPC0", "--split-mode", "none", "--tensor-split", "1")
        alone = app(*options, "--device", "none")
        assert (chosen.returncode, alone.returncode) == (0, 0), chosen.stderr + alone.stderr
        assert chosen.stdout == alone.stdout
        with running_server(tmp_path, endless_model, "--rpc", worker.endpoint):
            busy = app(*options)
        assert busy.returncode == 1
        assert busy.stderr.startswith(f"error: the worker at {worker.endpoint} does not answer")


def test_a_worker_keeps_large_weights(tmp_path: Path, model_path: Path) -> None:
    cache = tmp_path / "cache"
    with running_worker(tmp_path, "--cache-dir", str(cache)) as worker:
        options = ("generate", str(model_path), "Hello", "--raw", "-n", "4", "--rpc")
        first, second = (app(*options, worker.endpoint) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout == second.stdout
    assert [path.stat().st_size >= 10 << 20 for path in cache.iterdir()] == [True]


def test_a_worker_that_others_can_reach_warns(tmp_path: Path) -> None:
    with running_worker(tmp_path, "--host", "0.0.0.0") as open_to_all:
        assert "RPC knows no key and no encryption" in open_to_all.log.read_text()
    with running_worker(tmp_path) as own:
        assert "warning" not in own.log.read_text()


def test_a_worker_whose_port_is_taken_says_so(tmp_path: Path) -> None:
    with running_worker(tmp_path) as worker:
        second = app("worker", "--port", str(worker.port))
    assert second.returncode == 1
    assert f"error: cannot serve on {worker.endpoint}" in second.stderr
