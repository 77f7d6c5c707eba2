"""A client that goes away frees its slot or its queue place, and disturbs nobody."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tests.app.conftest import Server, running_server

TEXT = {"type": "string", "minLength": 4000}
LONG = {
    "type": "object",
    "properties": {"text": TEXT},
    "required": ["text"],
    "additionalProperties": False,
}
ENDLESS = {"prompt": "Once upon a time", "max_tokens": 3000, "ignore_eos": True, "temperature": 0}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """One slot, so that a second request has to wait."""
    folder = tmp_path_factory.mktemp("small")
    with running_server(folder, "--parallel", "1", "--ctx-size", "4096") as server:
        yield server


def wait_for(server: Server, *, active: int, waiting: int) -> None:
    while (server.metric("active_slots"), server.metric("queue_length")) != (active, waiting):
        time.sleep(0.01)


class Request:
    """A request in a thread of its own, whose connection can be cut at any time."""

    def __init__(
        self,
        server: Server,
        *,
        stream: bool,
        path: str = "/v1/completions",
        body: Mapping[str, object] = ENDLESS,
    ) -> None:
        self._http = httpx.Client(base_url=server.url, timeout=600)
        self._path = path
        self._body = {**body, "stream": stream}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._http.stream("POST", self._path, json=self._body) as answer:
                for _ in answer.iter_raw():
                    pass
        except (httpx.HTTPError, OSError, RuntimeError):
            pass

    def cut(self) -> None:
        pool = self._http._transport._pool  # type: ignore[attr-defined]
        for connection in pool.connections:
            stream = connection._connection._network_stream
            raw = stream.get_extra_info("socket")
            raw.shutdown(2)
        self.wait()

    def wait(self) -> None:
        """Until it has ended."""
        self._thread.join()
        self._http.close()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_running_request_whose_client_left_frees_its_slot(small: Server, stream: bool) -> None:
    cancelled = small.metric("requests_total", outcome="cancelled")
    request = Request(small, stream=stream)
    wait_for(small, active=1, waiting=0)
    request.cut()
    wait_for(small, active=0, waiting=0)
    assert small.metric("requests_total", outcome="cancelled") == cancelled + 1
    assert small.metric("generated_tokens_total") < 3000


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/responses",
            {
                "input": "Tell.",
                "text": {"format": {"type": "json_schema", "name": "tale", "schema": LONG}},
            },
        ),
        (
            "/v1/messages",
            {
                "messages": [{"role": "user", "content": "Tell."}],
                "max_tokens": 3000,
                "output_config": {"format": {"type": "json_schema", "schema": LONG}},
            },
        ),
    ],
)
def test_the_same_holds_in_every_dialect(
    small: Server, path: str, body: dict[str, object], stream: bool
) -> None:
    cancelled = small.metric("requests_total", outcome="cancelled")
    request = Request(small, stream=stream, path=path, body=body)
    wait_for(small, active=1, waiting=0)
    request.cut()
    wait_for(small, active=0, waiting=0)
    assert small.metric("requests_total", outcome="cancelled") == cancelled + 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_waiting_request_whose_client_left_frees_its_place(small: Server, stream: bool) -> None:
    running = Request(small, stream=True)
    wait_for(small, active=1, waiting=0)
    waiting = Request(small, stream=stream)
    wait_for(small, active=1, waiting=1)
    waiting.cut()
    wait_for(small, active=1, waiting=0)
    running.cut()
    wait_for(small, active=0, waiting=0)


def test_a_client_that_left_disturbs_nobody(server: Server) -> None:
    body = ENDLESS | {"max_tokens": 60}
    alone = server.http.post("/v1/completions", json=body).json()
    leaving = [Request(server, stream=bool(i % 2)) for i in range(3)]
    while server.metric("active_slots") < 3:
        time.sleep(0.01)
    answers = []
    staying = threading.Thread(
        target=lambda: answers.append(server.http.post("/v1/completions", json=body))
    )
    staying.start()
    for request in leaving:
        request.cut()
    staying.join()
    assert answers[0].status_code == 200
    usage = answers[0].json()["usage"]
    assert usage["completion_tokens"] == alone["usage"]["completion_tokens"] == 60
    server.wait_idle()


def test_a_stopped_server_ends_its_streams(tmp_path: Path) -> None:
    options = ("--parallel", "1", "--ctx-size", "4096", "--grace", "0")
    with running_server(tmp_path, *options) as server:
        request = Request(server, stream=True)
        wait_for(server, active=1, waiting=0)
    request.wait()
    assert server.process.returncode == 0, server.log.read_text()
