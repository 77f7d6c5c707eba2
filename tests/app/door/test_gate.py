"""Names, keys and sizes of requests; where it matters, over real sockets."""

import json

import pytest

from app.door.config import DoorConfig
from app.door.gate import check_host, host_name
from app.door.refusals import RefusedError
from app.settings import ServerSettings
from tests.app.fake_backend import FakeBackend
from tests.app.in_process import served
from tests.app.over_http import error_in, listening, post, read_all

DOCS = ["/docs", "/redoc", "/openapi.json"]
SMALL = DoorConfig(max_body=1000)


@pytest.mark.parametrize(
    "name",
    ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "192.168.1.7", "[::1]:80", "[::1]", "::1",
     "a.localhost", "host.docker.internal:8000", "mine.example:80"],
)  # fmt: skip
def test_names_that_nobody_else_can_have(name: str) -> None:
    check_host(name, ["mine.example"])


@pytest.mark.parametrize(
    "name",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example",
     "notlocalhost", "[evil]:80", "", "evil.example.", "1.2.3.4@evil.example"],
)  # fmt: skip
def test_names_that_somebody_else_may_have(name: str) -> None:
    with pytest.raises(RefusedError, match="--allowed-hosts"):
        check_host(name, ["mine.example"])


def test_a_request_without_a_name_is_no_browsers() -> None:
    check_host(None, [])


def test_ports_and_brackets_are_no_part_of_a_name() -> None:
    assert [host_name(host) for host in ("A:1", "a", "[::1]:5", "::1")] == ["a", "a", "::1", "::1"]


def test_a_rebound_name_does_not_reach_a_server_on_loopback() -> None:
    with served(FakeBackend(), door=ServerSettings().door_config) as client:
        for path in ("/health", "/", "/v1/models", "/docs"):
            answer = client.get(path, headers={"Host": "evil.example"})
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "host_not_allowed"
            assert client.get(path, headers={"Host": "localhost:8000"}).status_code == 200


@pytest.mark.parametrize(
    ("options", "hosts"),
    [
        ({}, ()),
        ({"host": "::1"}, ()),
        ({"host": "localhost"}, ()),
        ({"host": "0.0.0.0"}, None),
        ({"host": "mine.example"}, None),
        ({"allowed_hosts": "A.example, b"}, ("a.example", "b")),
        ({"host": "0.0.0.0", "allowed_hosts": "a"}, ("a",)),
        ({"allowed_hosts": "*"}, None),
    ],
)
def test_which_names_are_checked(options: dict[str, str], hosts: tuple[str, ...] | None) -> None:
    assert ServerSettings(**options).door_config.hosts == hosts  # type: ignore[arg-type]


def test_docs_and_metrics_want_the_key_unless_opened() -> None:
    key = {"Authorization": "Bearer key"}
    with served(FakeBackend(), api_key="key") as client:
        for path in (*DOCS, "/metrics"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers=key).status_code == 200
        assert client.get("/health").status_code == 200
    with served(FakeBackend(), api_key="key", door=DoorConfig(open_docs=True)) as client:
        assert {client.get(path).status_code for path in DOCS} == {200}
        assert client.get("/metrics").status_code == 401
    with served(FakeBackend(), api_key="key", door=DoorConfig(open_metrics=True)) as client:
        assert {client.get(path).status_code for path in DOCS} == {401}
        assert client.get("/metrics").status_code == 200


def test_a_body_that_is_too_large_is_told_so() -> None:
    with served(FakeBackend(), door=SMALL) as client:
        assert client.post("/tokenize", json={"content": "a" * 900}).status_code == 200
        for answer in (
            client.post("/tokenize", json={"content": "a" * 1000}),
            client.post("/tokenize", content=iter([b"a" * 600, b"a" * 600])),  # chunked
        ):
            assert answer.status_code == 413
            error = answer.json()["error"]
            assert error["code"] == "body_too_large"
            assert "at most 1,000 bytes are read (--max-body)" in error["message"]


def test_a_client_that_sends_too_much_before_it_reads_gets_the_answer() -> None:
    with listening(FakeBackend(), SMALL) as server:
        client = server.connect()
        client.sendall(post("/tokenize", {"content": "a" * 5_000_000}))
        client.sendall(post("/tokenize", {"content": "a"}, "Connection: close"))
        answers = read_all(client)
        assert answers.startswith(b"HTTP/1.1 413")
        assert b"HTTP/1.1 200" in answers


def test_who_asks_before_sending_is_answered_before_sending() -> None:
    with listening(FakeBackend(), SMALL, api_key="key") as server:
        for key, status in (("wrong", b"401"), ("key", b"413")):
            client = server.connect()
            client.sendall(
                b"POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n"
                b"Expect: 100-continue\r\nConnection: close\r\n"
                b"Authorization: Bearer " + key.encode() + b"\r\n\r\n"
            )
            answer = read_all(client)
            assert answer.startswith(b"HTTP/1.1 " + status)
            assert error_in(answer)["message"]


def test_the_key_comes_before_the_body() -> None:
    """Not a byte of it is waited for."""
    with listening(FakeBackend(), api_key="key") as server:
        client = server.connect()
        client.sendall(post("/v1/completions", {"prompt": "Hi"}, "Connection: close")[:-5])
        assert read_all(client).startswith(b"HTTP/1.1 401")


def test_the_documentation_says_what_may_come() -> None:
    with served(FakeBackend()) as client:
        described = client.get("/openapi.json").json()
    for path, methods in described["paths"].items():
        for operation in methods.values():
            assert "422" not in operation["responses"]
            if path.startswith(("/v1", "/tok", "/detok")):
                assert {"400", "401", "404", "413", "503"} <= set(operation["responses"]), path
    for path in ("/v1/completions", "/v1/chat/completions"):
        answers = described["paths"][path]["post"]["responses"]["200"]["content"]
        assert set(answers) == {"application/json", "text/event-stream"}
    metrics = described["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
    assert set(metrics) == {"text/plain"}
    assert "HTTPValidationError" not in json.dumps(described)
