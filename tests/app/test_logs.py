"""Logs as JSON, and the line about each request."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from app.cli.terminal import set_up_logging
from app.door.keys import ApiKey
from app.json_logs import JsonFormatter
from app.settings.running import LogFormat
from medusa.engine.events import FailureKind
from medusa.engine.fairness import Tenant
from tests.app.conftest import running_server
from tests.app.fake_backend import FakeBackend, Script
from tests.app.in_process import served
from tests.app.tiny_model import write_tiny_model

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What `app` logs as JSON; complete when the application has ended."""
    logger, stream, found = logging.getLogger("app"), StringIO(), list[dict[str, Any]]()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.emit = lambda record: found.append(json.loads(handler.format(record)))  # type: ignore[method-assign]
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.mark.parametrize("stream", [False, True])
def test_each_request_is_a_line(lines: list[dict[str, Any]], stream: bool) -> None:
    with served(FakeBackend()) as client:
        client.post(
            "/v1/chat/completions", json={**CHAT, "stream": stream}, headers={"x-request-id": "r1"}
        )
    (line,) = lines
    assert datetime.fromisoformat(line.pop("time")).utcoffset() is not None
    assert line.pop("duration") > 0
    assert line == {
        "level": "info",
        "logger": "app.access",
        "message": "POST /v1/chat/completions 200",
        "request_id": "r1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "prompt_tokens": 8,
        "completion_tokens": 11,
    }


def test_an_error_is_logged_under_the_id_of_its_request(lines: list[dict[str, Any]]) -> None:
    with served(FakeBackend([Script(failure=FailureKind.INTERNAL)])) as client:
        answer = client.post("/v1/chat/completions", json=CHAT)
        client.get("/nowhere")
    error, access, nowhere = lines
    assert error["level"] == "error"
    assert "GenerationFailedError: it broke" in error["exception"]
    assert error["request_id"] == access["request_id"] == answer.headers["x-request-id"]
    assert (access["status"], access["completion_tokens"]) == (500, 11)
    assert (nowhere["status"], nowhere["completion_tokens"]) == (404, 0)


def test_a_line_is_one_line_whatever_is_in_it(lines: list[dict[str, Any]]) -> None:
    log = logging.getLogger("app")
    try:
        raise ValueError('two\nlines and "é"')
    except ValueError:
        log.exception("it\n%s", "broke", extra={"fields": {"path": Path("/x")}})
    record = logging.LogRecord("app", 20, "", 0, "a\nb", (), None)
    assert "\n" not in JsonFormatter().format(record)
    (line,) = lines
    assert line["message"] == "it\nbroke"
    assert 'two\nlines and "é"' in line["exception"]
    assert line["path"] == "/x"
    assert "request_id" not in line


def test_a_server_logs_json_and_nothing_else(tmp_path: Path) -> None:
    model = tmp_path / "tiny.gguf"
    write_tiny_model(model)
    with running_server(tmp_path, str(model), "--log-format", "json") as server:
        server.http.post(
            "/v1/completions", json={"prompt": "ab", "max_tokens": 3, "ignore_eos": True}
        ).raise_for_status()
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert lines[0]["message"] == "loading tiny.gguf"
    assert f"ready: {server.url}" in [line["message"] for line in lines]
    (post,) = [line for line in lines if line.get("method") == "POST"]
    assert (post["status"], post["completion_tokens"]) == (200, 3)


def test_as_text_only_warnings_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    level, llama = root.level, logging.getLogger("medusa.llama").level
    set_up_logging(False, LogFormat.TEXT)
    logging.getLogger("app.access").info("GET / 200")
    logging.getLogger("app").warning("look")
    root.setLevel(level)
    logging.getLogger("medusa.llama").setLevel(llama)
    shown = capsys.readouterr().err
    assert "look" in shown
    assert "GET" not in shown


def test_the_line_names_the_key_and_not_what_it_is(lines: list[dict[str, Any]]) -> None:
    with served(FakeBackend(), api_keys=[ApiKey("secret", Tenant("alice"))]) as client:
        client.post("/v1/chat/completions", json=CHAT, headers={"X-Api-Key": "secret"})
        client.post("/v1/chat/completions", json=CHAT)
    assert [(line["status"], line.get("key")) for line in lines] == [(200, "alice"), (401, None)]
    assert "secret" not in json.dumps(lines)
