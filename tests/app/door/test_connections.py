"""What clients may hold open, and for how long; over real sockets."""

import asyncio
import json
import resource
import socket
import struct
from pathlib import Path

import httpx
import pytest

from app.door.config import DoorConfig
from app.door.connections import SendClock, client_of
from app.door.listening import server_config
from app.door.tls import tls_context
from app.hosts import ModelHosts
from app.server import create_app
from medusa.errors import MedusaError
from tests.app.fake_backend import FakeBackend, Script
from tests.app.in_process import host_of
from tests.app.over_http import Listening, error_in, get, listening, post, read_all, wait_until

HEALTH = get("/health", "Connection: close")
SOON = 0.2


def test_headers_that_never_end_are_not_waited_for() -> None:
    with listening(FakeBackend(), DoorConfig(header_timeout=SOON)) as server:
        client = server.connect()
        client.sendall(b"GET /health HTTP/1.1\r\nHost: local")
        answer = read_all(client)
        assert answer.startswith(b"HTTP/1.1 408")
        assert "headers took longer than 0.2 s" in error_in(answer)["message"]


def test_nothing_at_all_is_not_waited_for_either() -> None:
    with listening(FakeBackend(), DoorConfig(header_timeout=SOON)) as server:
        client = server.connect()
        assert read_all(client) == b""


def test_empty_lines_between_requests_do_not_keep_a_connection_open() -> None:
    with listening(FakeBackend(), DoorConfig(header_timeout=SOON)) as server:
        client = server.connect()
        client.sendall(get("/health"))
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
        client.sendall(b"\r\n")
        assert b"HTTP/1.1 400" in read_all(client)


def test_a_body_that_never_ends_is_not_waited_for() -> None:
    with listening(FakeBackend(), DoorConfig(body_timeout=SOON)) as server:
        client = server.connect()
        client.sendall(post("/v1/completions", {"prompt": "Hi"})[:-1])
        answer = read_all(client)
        assert answer.startswith(b"HTTP/1.1 408")
        assert error_in(answer)["code"] == "request_timeout"
        assert "body took longer" in error_in(answer)["message"]


def test_the_body_of_a_refused_request_is_not_waited_for() -> None:
    with listening(FakeBackend(), DoorConfig(body_timeout=SOON), api_key="key") as server:
        client = server.connect()
        client.sendall(post("/v1/completions", {"prompt": "Hi"})[:-1])
        answer = read_all(client)
        assert answer.startswith(b"HTTP/1.1 401")
        assert answer.count(b"HTTP/1.1") == 1


def test_an_answer_may_take_its_time() -> None:
    """The clocks for headers and body stand still once a request is there."""
    door = DoorConfig(header_timeout=SOON, body_timeout=SOON, send_timeout=SOON)
    with listening(FakeBackend([Script(hangs=True)]), door) as server:
        client = server.connect()
        client.sendall(post("/v1/completions", {"prompt": "Hi", "stream": True}))
        slow = server.connect()  # its clock is started later than the other's would have been
        assert read_all(slow) == b""
        assert server.n_connections == 1
        client.close()


def test_what_is_no_http_is_answered_in_json() -> None:
    with listening(FakeBackend()) as server:
        client = server.connect()
        client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        answer = read_all(client)
        assert answer.startswith(b"HTTP/1.1 400")
        assert error_in(answer)["code"] == "no_http"


def test_garbage_behind_a_running_request_disturbs_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = FakeBackend([Script(hangs=True)])
    with listening(backend) as server:
        client = server.connect()
        client.sendall(post("/v1/completions", {"prompt": "Hi", "stream": True}) + b"\0\0\r\n\r\n")
        wait_until(lambda: bool(backend.submitted))
        bad = server.connect()
        chunked = b"POST /tokenize HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"
        bad.sendall(chunked)
        assert read_all(bad).startswith(b"HTTP/1.1 400")
        client.close()
        wait_until(lambda: bool(backend.cancelled))
    assert caplog.records == []


def test_pipelined_requests_are_answered_in_order() -> None:
    with listening(FakeBackend()) as server:
        client = server.connect()
        bodies = [post("/tokenize", {"content": "a" * n}) for n in range(20)]
        client.sendall(b"".join(bodies) + HEALTH)
        answers = read_all(client).split(b"HTTP/1.1 200 OK")[1:]
        lengths = [json.loads(a.partition(b"\r\n\r\n")[2]).get("tokens") for a in answers]
        assert [len(tokens) for tokens in lengths[:-1]] == list(range(20))


def test_a_client_that_half_closes_is_taken_for_one_that_left() -> None:
    """Both look the same from here; docs/security.md says so."""
    backend = FakeBackend([Script(hangs=True)])
    with listening(backend) as server:
        client = server.connect()
        client.sendall(post("/v1/completions", {"prompt": "Hi", "stream": True}))
        wait_until(lambda: bool(backend.submitted))
        client.shutdown(socket.SHUT_WR)
        wait_until(lambda: bool(backend.cancelled))


def test_more_connections_than_allowed_are_told_to_come_back() -> None:
    with listening(FakeBackend(), DoorConfig(max_connections=3)) as server:
        held = [server.connect() for _ in range(3)]
        wait_until(lambda: server.n_connections == 3)
        client = server.connect()
        client.sendall(HEALTH)
        answer = read_all(client)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 2" in answer.lower()
        assert error_in(answer)["code"] == "too_many_connections"
        held.pop().close()
        wait_until(lambda: server.n_connections == 2)
        client = server.connect()
        client.sendall(HEALTH)
        assert read_all(client).startswith(b"HTTP/1.1 200")


def test_one_client_may_not_have_all_connections() -> None:
    with listening(FakeBackend(), DoorConfig(max_connections_per_client=2)) as server:
        for _ in range(2):
            server.connect()
        wait_until(lambda: server.n_connections == 2)
        client = server.connect()
        client.sendall(HEALTH)
        answer = read_all(client)
        assert answer.startswith(b"HTTP/1.1 429")
        assert "--max-connections-per-client" in error_in(answer)["message"]


def test_a_crowd_that_does_not_even_listen_is_cut_off() -> None:
    with listening(FakeBackend(), DoorConfig(max_connections=1)) as server:
        for _ in range(1 + 64):
            server.connect()
        wait_until(lambda: server.n_connections == 65)
        assert read_all(server.connect()) == b""
        wait_until(lambda: server.n_connections == 65)


@pytest.mark.parametrize(
    ("address", "client"),
    [
        (("192.0.2.1", 5), "192.0.2.1"),
        (("2001:db8::1", 5, 0, 0), "2001:db8::/64"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::/64"),
        (None, ""),
    ],
)
def test_a_subscriber_is_one_client(address: tuple[str, int] | None, client: str) -> None:
    assert client_of(address) == client


def never_read(server: Listening, body: dict[str, object]) -> socket.socket:
    """Send a request and leave the answer unread."""
    client = server.connect(receive_buffer=4096)
    client.sendall(post("/v1/completions", body))
    return client


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_that_never_reads_is_cut_off(stream: bool) -> None:
    """With as many bytes as no socket's buffers take."""
    backend = FakeBackend([Script(["x" * 16_000_000], one_token=True)])
    with listening(backend, DoorConfig(send_timeout=SOON)) as server:
        client = never_read(server, {"prompt": "Hi", "stream": stream})
        wait_until(lambda: bool(backend.submitted))
        wait_until(lambda: server.n_connections == 0)
        client.close()


class Draining:
    """A transport that gets rid of so many bytes between two looks at it."""

    def __init__(self, taken: int, until: asyncio.Event) -> None:
        self.taken = taken
        self.until = until
        self.size = 10 * taken + 5
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        self.size -= self.taken
        if self.size <= 0:
            self.until.set()
        return self.size

    def abort(self) -> None:
        self.aborted = True
        self.until.set()


@pytest.mark.parametrize(("taken", "aborted"), [(16 * 1024, False), (16 * 1024 - 1, True)])
def test_slow_readers_are_not_those_that_do_not_read(taken: int, aborted: bool) -> None:
    async def run() -> bool:
        transport = Draining(taken, asyncio.Event())
        clock = SendClock(transport, 0.001)  # type: ignore[arg-type]
        clock.start()
        await transport.until.wait()
        clock.stop()
        return transport.aborted

    assert asyncio.run(run()) is aborted


def test_a_slow_reader_loses_its_slot_but_no_text() -> None:
    texts = ["Z" * 100_000] * 200
    backend = FakeBackend([Script(texts, one_token=True)])
    with listening(backend, DoorConfig(stream_buffer=1_000_000)) as server:
        client = never_read(server, {"prompt": "Hi", "stream": True})
        wait_until(lambda: backend.pauses == [True])
        answer = bytearray()
        while not answer.endswith(b"0\r\n\r\n"):
            answer += client.recv(1 << 16)
        assert answer.partition(b"\r\n\r\n")[2].count(b"Z") == 200 * 100_000
        assert b"data: [DONE]\n\n" in answer
        assert backend.pauses[-1] is False
        metrics = httpx.get(f"{server.url}/metrics").text
        assert f"llama_medusa_stream_pauses_total {backend.pauses.count(True)}.0" in metrics
        client.close()


def test_a_reset_connection_ends_its_requests() -> None:
    backend = FakeBackend([Script(hangs=True)])
    with listening(backend) as server:
        client = server.connect()
        client.sendall(post("/v1/completions", {"prompt": "Hi", "stream": True}))
        wait_until(lambda: bool(backend.submitted))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        wait_until(lambda: bool(backend.cancelled))


def test_idle_connections_outlive_those_of_clients_pools() -> None:
    app = create_app(ModelHosts([host_of("fake", FakeBackend)]))
    assert server_config(app, DoorConfig(), grace=1).timeout_keep_alive > 90  # Go's; others less


def test_the_limit_on_descriptors_is_raised_where_it_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = [(256, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _what: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _what, new: limits.append(new))
    app = create_app(ModelHosts([host_of("fake", FakeBackend)]))
    server_config(app, DoorConfig(max_connections=100), grace=1)
    assert limits[-1] == (256, 4096)
    server_config(app, DoorConfig(max_connections=1000), grace=1)
    assert limits[-1] == (1128, 4096)
    with pytest.raises(MedusaError, match=r"needs 10128 file descriptors.* at most 3968"):
        server_config(app, DoorConfig(max_connections=10_000), grace=1)


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    with pytest.raises(MedusaError, match="--ssl-certfile"):
        tls_context(nothing)
