"""Prompts over HTTP, on a tiny model in the test's own process: what is made of texts, and back."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.backend import LocalBackend
from app.cli.serve import describe
from medusa.engine.config import EngineConfig
from medusa.loading import open_model
from tests.app.in_process import served
from tests.app.tiny_model import write_tiny_model, write_tiny_sentencepiece_model

Serve = Callable[[Path], TestClient]
CONFIG = EngineConfig(n_slots=2, n_ctx=256, n_threads=1, draft_nodes=0)
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
            return stack.enter_context(served(LocalBackend(open_model(path, config=CONFIG))))

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


def test_serve_says_why_there_is_no_chat(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", chat_template="{% nonsense %}")
    loaded = open_model(tmp_path / "tiny.gguf", config=CONFIG)
    lines = [line for line in describe(loaded) if line.startswith("no chat:")]
    loaded.close()
    assert len(lines) == 1
    assert "nonsense" in lines[0]


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
    is_costly = words == "hang"
    assert (answer["error"]["code"] == "limit_exceeded") == is_costly
    assert ("--template-seconds" in answer["error"]["message"]) == is_costly
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


PROMPTS = ["ab", " ab", "a b  c", "<s>ab", "ab</s>ab", "", "\n ab", "é ab", "a<s>b"]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_echo_is_the_prompt(tmp_path: Path, serve: Serve, prompt: str) -> None:
    write_tiny_sentencepiece_model(tmp_path / "tiny.gguf")
    client = serve(tmp_path / "tiny.gguf")
    for stream in (False, True):
        choice = complete(client, prompt=prompt, echo=True, logprobs=0, stream=stream)
        assert choice["text"].startswith(prompt)
        if stream:
            assert choice == complete(client, prompt=prompt, echo=True, logprobs=0, stream=False)
        scored = choice["logprobs"]
        assert scored["token_logprobs"][0] is None
        assert scored["tokens"].count("<s>") == max(1, prompt.count("<s>") + ("a<s>" in prompt))
        for token, offset in zip(scored["tokens"], scored["text_offset"], strict=True):
            shown = token if choice["text"].startswith(token, offset) else token.removeprefix(" ")
            if token not in ("<s>", "</s>") and not token.startswith("bytes:"):
                assert choice["text"].startswith(shown, offset), (token, offset)


def test_echo_of_tokens_is_the_text_that_they_were(tmp_path: Path, serve: Serve) -> None:
    write_tiny_sentencepiece_model(tmp_path / "tiny.gguf")
    client = serve(tmp_path / "tiny.gguf")
    for prompt in ("ab", " ab", "é", "ab</s>ab"):
        body = {"content": prompt, "add_special": True}
        tokens = client.post("/tokenize", json=body).json()["tokens"]
        choice = complete(client, prompt=tokens, echo=True, max_tokens=0, logprobs=0)
        assert choice["text"] == prompt.replace("</s>", "</s> ")
    (half, *_rest) = client.post("/tokenize", json={"content": "é"}).json()["tokens"][-2:]
    choice = complete(client, prompt=[1, half, half], echo=True, max_tokens=0, logprobs=0)
    assert choice["text"] == "\ufffd\ufffd"
    assert choice["logprobs"]["text_offset"] == [0, 0, 0]


def test_bos_comes_once(tmp_path: Path, serve: Serve) -> None:
    source = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    write_tiny_sentencepiece_model(tmp_path / "tiny.gguf", chat_template=source)
    client = serve(tmp_path / "tiny.gguf")

    def tokens(content: str, **fields: Any) -> list[int]:
        body = {"content": content, "add_special": True, **fields}
        found: list[int] = client.post("/tokenize", json=body).json()["tokens"]
        return found

    assert tokens("<s>ab") == tokens("ab")
    assert tokens("<s>ab").count(1) == 1
    assert tokens("<s><s>ab") == [1, *tokens("ab")]
    assert tokens("<s>ab", parse_special=False).count(1) == 1
    assert len(tokens("<s>ab", parse_special=False)) > len(tokens("ab"))
    assert chat(client, "ab")["usage"]["prompt_tokens"] == len(tokens("ab"))
    spelled = len(tokens("<s>ab", parse_special=False))
    assert chat(client, "<s>ab")["usage"]["prompt_tokens"] == spelled


def complete(client: TestClient, *, stream: bool = False, **fields: Any) -> dict[str, Any]:
    """The only choice; put together if it is streamed."""
    body = {"max_tokens": 5, "temperature": 0, "ignore_eos": True, "stream": stream, **fields}
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    if not stream:
        (choice,) = answer.json()["choices"]
        return dict(choice)
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n")[:-2]]
    (first, *others) = [json.loads(line)["choices"][0] for line in lines]
    for other in others:
        first["text"] += other["text"]
        first["finish_reason"] = other["finish_reason"]
        for name, values in (other["logprobs"] or {}).items():
            first["logprobs"] = first["logprobs"] or {}
            if values is not None:
                first["logprobs"].setdefault(name, []).extend(values)
            else:
                first["logprobs"][name] = None
    return dict(first)


@pytest.mark.parametrize("token", [-1, 10**9])
def test_tokens_that_are_none_are_refused_before_they_are_echoed(
    tmp_path: Path, serve: Serve, token: int
) -> None:
    write_tiny_model(tmp_path / "tiny.gguf")
    body = {"prompt": [1, token], "echo": True}
    answer = serve(tmp_path / "tiny.gguf").post("/v1/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt"
