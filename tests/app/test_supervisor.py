"""A server that crashes is started again, and what leads to no crash is not tried twice."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest

from app import stand_in, supervisor
from app.supervisor import supervise
from tests.app.conftest import running_server
from tests.app.over_http import post

BODY = {"prompt": "ab", "max_tokens": 8, "ignore_eos": True, "temperature": 0}


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_costs_the_running_requests_and_nothing_else(
    tmp_path: Path, endless_model: str, number: signal.Signals
) -> None:
    with running_server(tmp_path, endless_model, "-c", "200000") as server:
        before = server.choices(BODY)
        (child,) = children(server.process.pid)
        endless = BODY | {"max_tokens": 10**6, "stream": True}
        with server.http.stream("POST", "/v1/completions", json=endless) as stream:
            lines = stream.iter_lines()
            next(lines)
            os.kill(child, number)
            *_, error, done = filter(None, lines)  # and the response ends as it should
        assert json.loads(error.removeprefix("data: "))["error"]["code"] == "server_crashed"
        assert done == "data: [DONE]"
        statuses, codes = set(), set()
        while 200 not in statuses:
            health = httpx.get(f"{server.url}/health", timeout=60)  # nobody is refused
            statuses.add(health.status_code)
            if health.status_code == 503:
                codes.add(health.json()["error"]["code"])
                assert int(health.headers["Retry-After"]) > 0
        assert statuses == {200, 503}
        assert "restarting" in codes
        assert server.choices(BODY) == before
        (again,) = children(server.process.pid)
        assert again != child
        assert not Path(f"/proc/{child}").exists(), "a zombie"
    assert server.process.returncode == 0
    log = server.log.read_text()
    assert f"the server crashed ({number.name})" in log
    assert log.count("ready:") == 2


def test_who_waits_for_a_whole_answer_is_told_of_the_crash(
    tmp_path: Path, endless_model: str
) -> None:
    with running_server(tmp_path, endless_model, "-c", "200000") as server:
        (child,) = children(server.process.pid)
        endless = BODY | {"max_tokens": 10**5}
        with ThreadPoolExecutor() as pool:
            ask = partial(server.http.post, "/v1/completions", json=endless)
            answers = [pool.submit(ask) for _ in range(3)]
            while server.http.get("/health").json()["active"] < 3:
                time.sleep(0.01)
            os.kill(child, signal.SIGKILL)
            for answer in answers:
                assert answer.result().status_code == 500
                assert answer.result().json()["error"]["code"] == "server_crashed"


def test_whose_answer_has_ended_hears_of_no_crash(tmp_path: Path, endless_model: str) -> None:
    with running_server(tmp_path, endless_model) as server:
        (child,) = children(server.process.pid)
        with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":")[-1]))) as client:
            client.sendall(post("/v1/completions", BODY))
            answer = HTTPResponse(client)
            answer.begin()
            answer.read()
            os.kill(child, signal.SIGKILL)
            assert client.recv(1) == b""


def test_a_body_that_was_being_sent_does_not_cost_the_answer(
    tmp_path: Path, endless_model: str
) -> None:
    with running_server(tmp_path, endless_model) as server:
        (child,) = children(server.process.pid)
        os.kill(child, signal.SIGKILL)
        answer = httpx.post(f"{server.url}/v1/completions", content=b"x" * 3_000_000, timeout=60)
        assert answer.status_code == 503


def test_the_server_does_not_outlive_its_supervisor(tmp_path: Path, endless_model: str) -> None:
    with running_server(tmp_path, endless_model) as server:
        (child,) = children(server.process.pid)
        server.process.kill()
        server.process.wait()
        while Path(f"/proc/{child}").exists():
            time.sleep(0.01)


def run_supervised(code: str, report: Callable[[str], None] = print) -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return asyncio.run(supervise([sys.executable, "-c", code], listening, report))


def test_who_crashes_at_every_start_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_DELAY", 0)
    code = "import os, sys; print('assertion failed: 1 == 2', file=sys.stderr, flush=True); "
    reports: list[str] = []
    assert run_supervised(code + "os.abort()", reports.append) == 1
    log = "".join(reports)
    assert log.count("the server crashed (SIGABRT)") == supervisor.MAX_FAILED_STARTS
    assert log.count("\n    assertion failed: 1 == 2") == supervisor.MAX_FAILED_STARTS
    assert f"given up after {supervisor.MAX_FAILED_STARTS} starts" in log


@pytest.mark.parametrize("code", [0, 1, 2])
def test_who_ends_by_himself_is_not_started_again(code: int) -> None:
    assert run_supervised(f"raise SystemExit({code})") == code


def test_a_stop_before_the_server_listens_to_signals_is_obeyed() -> None:
    code = f"import os, time; os.kill({os.getpid()}, {signal.SIGTERM:d}); time.sleep(600)"
    assert run_supervised(code) == 0


def test_a_stop_between_two_starts_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "_PATIENCE", 1)
    code = (
        f"import os, subprocess, sys; subprocess.Popen([sys.executable, '-c', "
        f"'import os, time; time.sleep(0.5); os.kill({os.getpid()}, {signal.SIGTERM:d})']); "
        "os.abort()"
    )
    assert run_supervised(code) == 0


def test_a_hanging_server_ends_at_the_second_signal() -> None:
    code = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"os.kill({os.getpid()}, {signal.SIGTERM:d}); time.sleep(0.3); "
        f"os.kill({os.getpid()}, {signal.SIGTERM:d}); time.sleep(600)"
    )
    assert run_supervised(code) == 0
