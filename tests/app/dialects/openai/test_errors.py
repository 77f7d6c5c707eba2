from typing import Any

import pytest
from starlette.testclient import TestClient

from app.door.config import DoorConfig
from app.hosts import ModelHosts
from app.server import create_app
from medusa.engine.events import FailureKind
from medusa.engine.requests import GenerationRequest
from tests.app.fake_backend import FakeBackend, Script
from tests.app.in_process import host_of, served, wait_until_ready

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
COMPLETION = {"prompt": "Hi"}


def error_of(
    client: TestClient, body: dict[str, Any], status: int, path: str = "/v1/completions"
) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    return error


def test_a_field_that_is_wrong_is_named() -> None:
    with served(FakeBackend()) as client:
        assert error_of(client, COMPLETION | {"top_p": 2}, 400)["param"] == "top_p"
        error = error_of(client, COMPLETION | {"use_beam_search": True}, 400)
        assert (error["param"], error["code"]) == ("use_beam_search", "unsupported_parameter")


@pytest.mark.parametrize("stream", [False, True])
def test_an_overlong_prompt_is_named_as_the_client_knows_it(stream: bool) -> None:
    with served(FakeBackend()) as client:
        error = error_of(client, {"prompt": "x" * 1000, "stream": stream}, 400)
        assert (error["param"], error["code"]) == ("prompt", "context_length_exceeded")
        assert error["type"] == "exceed_context_size_error"
        assert (error["n_prompt_tokens"], error["n_ctx"]) == (1000, 1000)
        body = {"messages": [{"role": "user", "content": "x" * 1000}], "stream": stream}
        error = error_of(client, body, 400, "/v1/chat/completions")
        assert (error["param"], error["code"]) == ("messages", "context_length_exceeded")


def test_messages_that_the_template_refuses() -> None:
    with served(FakeBackend()) as client:
        body = {"messages": [{"role": "assistant", "content": "Hi"}]}
        error = error_of(client, body, 400, "/v1/chat/completions")
    assert error["param"] == "messages"
    assert "alternate" in error["message"]


def test_a_model_without_a_chat_template() -> None:
    with served(FakeBackend(has_template=False)) as client:
        error = error_of(client, CHAT, 400, "/v1/chat/completions")
    assert error["code"] == "no_chat_template"
    assert "/v1/completions" in error["message"]


def test_an_unknown_model() -> None:
    with served(FakeBackend(), door=DoorConfig(strict=True)) as client:
        error = error_of(client, COMPLETION | {"model": "gpt-4"}, 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert "'fake'" in error["message"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"prompt": ["w"] * 2000, "n": 64}, 400),  # more than would ever fit
        ({"prompt": ["w"] * 55, "n": 2}, 503),  # more than fits now
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made_of_it(
    body: dict[str, Any], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_args: object, **_fields: object) -> None:
        pytest.fail("a request was built")

    monkeypatch.setattr(GenerationRequest, "__init__", build)
    backend = FakeBackend()
    with served(backend) as client:
        answer = client.post("/v1/completions", json=body)
        assert answer.status_code == status
        metrics = client.get("/metrics").text
    assert backend.texts_read == 0
    n = len(body["prompt"]) * body["n"]
    assert f'requests_total{{outcome="refused"}} {float(n)}' in metrics
    if status == 503:
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json()["error"]["code"] == "queue_full"
    else:
        assert "128000 at once" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (FailureKind.STOPPED, 503, "shutting_down"),
        (FailureKind.NOT_NUMBERS, 500, "not_numbers"),
        (FailureKind.COSTLY_GRAMMAR, 400, "limit_exceeded"),
        (FailureKind.NOTHING_ALLOWED, 400, None),
        (FailureKind.INTERNAL, 500, "internal_error"),
    ],
)
def test_a_failure_while_generating(kind: FailureKind, status: int, code: str | None) -> None:
    backend = FakeBackend([Script(["One"], failure=kind), Script(hangs=True)])
    with served(backend) as client:
        error = error_of(client, COMPLETION | {"n": 2}, status)
        assert error["code"] == code
        assert ("it broke" in error["message"]) == (kind is not FailureKind.INTERNAL)
        assert ("--grammar-work" in error["message"]) == (kind is FailureKind.COSTLY_GRAMMAR)
    assert backend.cancelled == [backend.submitted[1].id]


def test_an_unexpected_error_tells_the_client_little() -> None:
    def fail() -> None:
        raise KeyError("secret")

    with served(FakeBackend(before_text=fail)) as client:
        error = error_of(client, COMPLETION, 500)
    assert error["code"] == "internal_error"
    assert "secret" not in error["message"]


def test_unknown_paths_and_methods() -> None:
    with served(FakeBackend()) as client:
        error = error_of(client, {}, 404, "/v1/unknown")
        assert error["type"] == "invalid_request_error"
        assert "POST /v1/unknown" in error["message"]
        assert client.get("/v1/completions").status_code == 405


def test_a_body_that_is_no_json() -> None:
    with served(FakeBackend()) as client:
        answer = client.post(
            "/v1/completions", content=b"{", headers={"Content-Type": "application/json"}
        )
    assert answer.status_code == 400
    assert "not valid JSON" in answer.json()["error"]["message"]


def test_a_model_that_could_not_be_loaded() -> None:
    def fail() -> FakeBackend:
        raise ValueError("no such file")

    hosts = ModelHosts([host_of("broken", fail)])
    with TestClient(create_app(hosts)) as client:
        with pytest.raises(ValueError, match="no such file"):
            wait_until_ready(client, hosts)
        assert error_of(client, COMPLETION, 503)["code"] == "model_failed"
        assert client.get("/health").status_code == 503


@pytest.mark.parametrize(
    ("format", "param"),
    [
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"name": 1}}, "response_format.json_schema.name"),
        ({"type": "xml"}, "response_format"),
        ({}, "response_format"),
    ],
)
def test_fields_inside_of_formats_have_the_names_that_were_sent(format: Any, param: str) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "response_format": format}
    with served(FakeBackend()) as client:
        error = client.post("/v1/chat/completions", json=body).json()["error"]
    assert error["param"] == param
