"""Requests as clients write them, and web pages of other origins."""

import pytest

from app.door.config import DoorConfig
from tests.app.fake_backend import FakeBackend
from tests.app.in_process import served


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/chat/completions", "/v1/chat/completions/", "/chat/completions/"],
)
def test_endpoints_are_found_with_and_without_version_and_slash(path: str) -> None:
    with served(FakeBackend()) as client:
        body = {"messages": [{"role": "user", "content": "Hi"}]}
        assert client.post(path, json=body).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/v1/health", "/models", "/v1/models/"])
def test_head_is_get_without_a_body(path: str) -> None:
    with served(FakeBackend()) as client:
        got, head = client.get(path), client.head(path)
        assert (got.status_code, head.status_code) == (200, 200)
        assert (head.content, head.headers["content-length"]) == (b"", str(len(got.content)))
        assert client.head("/v1/completions").status_code == 405
        assert client.head("/nowhere").status_code == 404


@pytest.mark.parametrize("path", ["/metrics/", "/v1/metrics", "/docs/", "/v1/openapi.json"])
def test_no_way_of_writing_a_path_goes_around_the_key(path: str) -> None:
    with served(FakeBackend(), api_key="key") as client:
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"X-Api-Key": "key"}).status_code == 200


ASKING = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,x",
}


@pytest.mark.parametrize(
    ("origins", "origin", "let_in"),
    [
        (None, "http://localhost:5173", True),
        (None, "https://app.localhost", True),
        (None, "http://127.0.0.1", True),
        (None, "http://[::1]:80", True),
        (None, "tauri://localhost", True),
        (None, "http://localhost.evil.example", False),
        (None, "http://evil.example", False),
        (None, "null", False),
        (("https://chat.example",), "https://chat.example", True),
        (("https://chat.example",), "http://localhost", False),
        (("*",), "http://evil.example", True),
    ],
)
def test_pages_are_let_in_by_their_origin(
    origins: tuple[str, ...] | None, origin: str, let_in: bool
) -> None:
    with served(FakeBackend(), api_key="key", door=DoorConfig(cors_origins=origins)) as client:
        answer = client.options("/v1/chat/completions", headers=ASKING | {"Origin": origin})
        assert answer.is_success == let_in
        assert (answer.headers.get("access-control-allow-origin") in (origin, "*")) == let_in
        refused = client.get("/v1/models", headers={"Origin": origin})
        assert refused.status_code == 401  # the page may read why
        assert ("access-control-allow-origin" in refused.headers) == let_in
        if let_in:
            assert "x-request-id" in refused.headers["access-control-expose-headers"].lower()


def test_any_of_several_keys_opens() -> None:
    with served(FakeBackend(), api_keys=["one", "two"]) as client:
        for headers, status in (
            ({"Authorization": "Bearer two"}, 200),
            ({"X-Api-Key": "one"}, 200),
            ({"X-Api-Key": "three"}, 401),
            ({"Authorization": "Bearer one,two"}, 401),
        ):
            assert client.get("/v1/models", headers=headers).status_code == status
