"""What a stop does to whoever is being served: real processes on a tiny model."""

import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app.conftest import Server, running_server

ENDLESS = {"prompt": "ab", "max_tokens": 10**6, "ignore_eos": True, "temperature": 0}


class Client:
    """A request in a thread of its own."""

    def __init__(self, server: Server, **fields: Any) -> None:
        self._server = server
        self._body = ENDLESS | fields
        self.lines: list[str] = []
        self.status = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with (
            httpx.Client(base_url=self._server.url, timeout=600) as http,
            http.stream("POST", "/v1/completions", json=self._body) as answer,
        ):
            self.status = answer.status_code
            for line in answer.iter_lines():
                if line:
                    self.lines.append(line)

    def join(self) -> list[str]:
        self._thread.join()
        return self.lines


def wait_for(server: Server, active: int) -> None:
    while server.metric("active_slots") != active:
        time.sleep(0.01)


def stop(server: Server, number: signal.Signals = signal.SIGTERM) -> None:
    server.process.send_signal(number)


def wait_draining(server: Server) -> httpx.Response:
    while (health := server.http.get("/health")).status_code == 200:
        time.sleep(0.01)
    return health


def error(text: str) -> Any:
    return json.loads(text.removeprefix("data: "))["error"]


@pytest.mark.parametrize("supervise", ["--supervise", "--no-supervise"])
def test_running_requests_end_in_peace_and_new_ones_are_refused(
    tmp_path: Path, endless_model: str, supervise: str
) -> None:
    options = ("-c", "8000", "--grace", "600", supervise)
    with running_server(tmp_path, endless_model, *options) as server:
        stream = Client(server, stream=True, max_tokens=1500)
        whole = Client(server, max_tokens=1500)
        wait_for(server, 2)
        stop(server)
        health = wait_draining(server)
        assert (health.status_code, health.json()["error"]["code"]) == (503, "shutting_down")
        refused = server.http.post("/v1/completions", json=ENDLESS)
        assert (refused.status_code, error(refused.text)["code"]) == (503, "shutting_down")
        assert int(refused.headers["Retry-After"]) > 0
        assert stream.join()[-1] == "data: [DONE]"
        assert json.loads(stream.lines[-2].removeprefix("data: "))["choices"][0]["finish_reason"]
        answer = json.loads("".join(whole.join()))
        assert answer["usage"]["completion_tokens"] == 1500
        assert server.process.wait() == 0
    assert "Traceback" not in server.log.read_text()


def test_what_is_unfinished_after_the_grace_gets_an_error_in_its_form(
    tmp_path: Path, endless_model: str
) -> None:
    with running_server(
        tmp_path, endless_model, "-c", "200000", "-np", "2", "--grace", "0.3"
    ) as server:
        stream, whole = Client(server, stream=True), Client(server)
        wait_for(server, 2)
        waiting = Client(server)
        while server.metric("queue_length") != 1:
            time.sleep(0.01)
        stop(server)
        assert stream.join()[-1] == "data: [DONE]"
        assert error(stream.lines[-2])["code"] == "shutting_down"
        for client in (whole, waiting):
            assert error("".join(client.join()))["code"] == "shutting_down"
            assert client.status == 503
        assert server.process.wait() == 0
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "ERROR" not in log


@pytest.mark.parametrize("supervise", ["--supervise", "--no-supervise"])
def test_the_second_signal_ends_it_at_once(
    tmp_path: Path, endless_model: str, supervise: str
) -> None:
    options = ("-c", "200000", "--grace", "1000", supervise)
    with running_server(tmp_path, endless_model, *options) as server:
        body = ENDLESS | {"stream": True}
        with server.http.stream("POST", "/v1/completions", json=body) as answer:
            next(answer.iter_lines())
            stop(server)
            stop(server, signal.SIGINT)
            assert server.process.wait() == 0
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("supervise", ["--supervise", "--no-supervise"])
def test_a_stop_while_loading_is_obeyed_at_once(
    tmp_path: Path, number: signal.Signals, supervise: str
) -> None:
    with running_server(tmp_path, supervise, until=lambda health: True) as server:
        stop(server, number)
        assert server.process.wait() == 0
    log = server.log.read_text()
    assert "ready:" not in log
    assert "Traceback" not in log


def test_clients_that_do_not_read_do_not_hold_it_up(tmp_path: Path, endless_model: str) -> None:
    with running_server(tmp_path, endless_model, "-c", "200000", "--grace", "0") as server:
        body = ENDLESS | {"stream": True, "logprobs": 5}
        with server.http.stream("POST", "/v1/completions", json=body) as answer:
            assert answer.status_code == 200
            time.sleep(1)  # until buffers are full
            stop(server)
            assert server.process.wait() == 0
    assert "Traceback" not in server.log.read_text()
