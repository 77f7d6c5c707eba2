"""Prompts over HTTP, on a tiny model in the test's own process: what is made of texts, and back."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.backend import LocalBackend
from medusa.engine.config import EngineConfig
from medusa.loading import open_model
from tests.app.in_process import served
from tests.app.tiny_model import write_tiny_model

Serve = Callable[[Path], TestClient]
PICKY = (
    "{% for m in messages %}{{ m.content }}"
    "{% if m.content == 'add' %}{{ 1 + m.content }}{% endif %}"
    "{% if m.content == 'hang' %}{% for a in range(99999) %}{% for b in range(99999) %}"
    "{% endfor %}{% endfor %}{% endif %}{% endfor %}"
)


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:

        def serve(path: Path) -> TestClient:
            config = EngineConfig(n_slots=2, n_ctx=256, n_threads=1, draft_nodes=0)
            return stack.enter_context(served(LocalBackend(open_model(path, config=config))))

        yield serve


def chat(client: TestClient, words: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": words}]
    answer = client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 2})
    return {"status": answer.status_code, **answer.json()}


@pytest.mark.parametrize("source", [None, "{% nonsense %}"])
def test_texts_are_continued_without_a_template(
    tmp_path: Path, serve: Serve, source: str | None
) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", chat_template=source)
    client = serve(tmp_path / "tiny.gguf")
    answer = chat(client, "Hi")
    assert answer["status"] == 400
    assert answer["error"]["code"] == "no_chat_template"
    assert ("nonsense" if source else "no chat template") in answer["error"]["message"]
    assert "--chat-template" in answer["error"]["message"]
    assert client.post("/v1/completions", json={"prompt": "Hi"}).status_code == 200


@pytest.mark.parametrize(("words", "reason"), [("add", "TypeError"), ("hang", "processor time")])
def test_an_error_of_the_template_is_a_400(
    tmp_path: Path, serve: Serve, words: str, reason: str
) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", chat_template=PICKY)
    client = serve(tmp_path / "tiny.gguf")
    answer = chat(client, words)
    assert answer["status"] == 400
    assert answer["error"]["param"] == "messages"
    assert reason in answer["error"]["message"]
    assert chat(client, "Hi")["status"] == 200


def test_what_is_no_number_is_a_500_that_says_so(tmp_path: Path, serve: Serve) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", control=("<|bad|>",), broken="<|bad|>")
    client = serve(tmp_path / "tiny.gguf")
    answer = client.post("/v1/completions", json={"prompt": "a<|bad|>", "logprobs": 1})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "not_numbers"
    assert "not numbers" in answer.json()["error"]["message"]
    assert "llama_medusa_not_numbers_total 1.0" in client.get("/metrics").text
    assert client.post("/v1/completions", json={"prompt": "a", "logprobs": 1}).status_code == 200
