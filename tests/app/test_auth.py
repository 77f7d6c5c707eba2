import pytest
from starlette.testclient import TestClient

from app.auth import Guard, UnauthorizedError
from app.door.keys import ApiKey
from medusa.engine.fairness import Tenant
from tests.app.fake_backend import FakeBackend
from tests.app.in_process import served

KEY = "schlüssel-鍵"


def status(client: TestClient, header: bytes | None, path: str = "/v1/completions") -> int:
    headers = {} if header is None else {b"Authorization": header}
    return client.post(path, json={"prompt": "Hi"}, headers=headers).status_code


def test_a_key_is_compared_as_utf8() -> None:
    with served(FakeBackend(), api_key=KEY) as client:
        assert status(client, f"Bearer {KEY}".encode()) == 200
        assert status(client, f"bearer {KEY}".encode()) == 200


@pytest.mark.parametrize(
    "header", [None, b"", b"Bearer", b"Bearer ", b"Bearer wrong", f"Basic {KEY}".encode()]
)
def test_other_keys_are_refused(header: bytes | None) -> None:
    with served(FakeBackend(), api_key=KEY) as client:
        assert status(client, header) == 401


def test_the_key_is_asked_for_before_the_body_is_read() -> None:
    with served(FakeBackend(), api_key=KEY) as client:
        answer = client.post("/v1/completions", content=b"{")
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"


def test_every_endpoint_but_these_wants_the_key() -> None:
    with served(FakeBackend(), api_key=KEY) as client:
        refused = set()
        described = client.get(
            "/openapi.json", headers={b"Authorization": f"Bearer {KEY}".encode()}
        )
        for path, methods in described.json()["paths"].items():
            for method in methods:
                answer = client.request(method, path.replace("{name}", "fake"))
                if answer.status_code != 401:
                    refused.add(path)
        assert refused == {"/health"}
        assert client.get("/").status_code == 200


def test_without_a_key_everybody_is_let_in() -> None:
    with served(FakeBackend()) as client:
        assert status(client, None) == 200
        assert status(client, b"Bearer anything") == 200


def test_missing_keys_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.compare_digest", lambda *_: pytest.fail("compared"))
    for nothing in (None, ""):
        with pytest.raises(UnauthorizedError):
            Guard([ApiKey("key")]).check(nothing)


def test_an_empty_key_cannot_be_configured() -> None:
    with pytest.raises(ValueError, match="empty"):
        ApiKey("")


def test_each_key_is_a_client_of_its_own() -> None:
    alice, bob = Tenant("alice", 3.0), Tenant("bob")
    guard = Guard([ApiKey("a", alice), ApiKey("b", bob)])
    assert [guard.check(key).tenant for key in ("a", "b")] == [alice, bob]
    assert guard.check("a").meter is guard.check("a").meter is not guard.check("b").meter
