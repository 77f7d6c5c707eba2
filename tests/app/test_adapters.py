"""How users and clients name LoRA adapters, without a model."""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.adapters import Adapters
from app.host import ModelHost
from app.hosts import ModelHosts
from app.server import create_app
from app.settings.adapters import NamedAdapter, parse_adapter
from medusa.errors import InvalidRequestError
from medusa.llama.adapters import AdapterSet, Applied
from tests.app.fake_backend import FakeBackend
from tests.app.in_process import wait_until_ready

POET, COOK = NamedAdapter("poet", Path("p.gguf")), NamedAdapter("cook", Path("c.gguf"), 0.5)


@pytest.mark.parametrize(
    ("text", "name", "file", "scale"),
    [
        ("poet.gguf", "poet", "poet.gguf", 1.0),
        ("poet.gguf:0.5", "poet", "poet.gguf", 0.5),
        ("poet.gguf:-2", "poet", "poet.gguf", -2.0),
        ("bard=poet.gguf", "bard", "poet.gguf", 1.0),
        ("bard=poet.gguf:1e-1", "bard", "poet.gguf", 0.1),
        ("a=b:0.5.gguf", "a=b:0.5", "a=b:0.5.gguf", 1.0),
        ("bard=a=b:0.5.gguf:0.25", "bard", "a=b:0.5.gguf", 0.25),
    ],
)
def test_spelling(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    name: str,
    file: str,
    scale: float,
) -> None:
    monkeypatch.chdir(tmp_path)
    for each in ("poet.gguf", "a=b:0.5.gguf"):
        Path(each).touch()
    assert parse_adapter(text) == NamedAdapter(name, Path(file), scale)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nowhere.gguf", "nowhere.gguf is not a file"),
        ("bard=nowhere.gguf:0.5", "nowhere.gguf is not a file"),
        ("poet.gguf:loud", "'loud' is not a number"),
        ("poet.gguf:nan", "'nan' is not a number"),
        ("=poet.gguf", "no name before the ="),
        ("", "not a file"),
    ],
)
def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("poet.gguf").touch()
    with pytest.raises(ValueError, match=reason):
        parse_adapter(text)


def test_what_is_applied() -> None:
    adapters = Adapters([POET, COOK])
    assert adapters.applied(None) == (Applied(0, 1.0), Applied(1, 0.5))
    assert adapters.applied(adapters.picked_by("cook")) == (Applied(1, 0.5),)
    assert adapters.picked_by("nobody") is None
    adapters.set_scales({1: -1.0})
    assert adapters.applied(None) == (Applied(1, -1.0),)
    assert adapters.applied(COOK) == (Applied(1, 0.5),)
    with pytest.raises(InvalidRequestError, match="no adapter 2"):
        adapters.set_scales({0: 1.0, 2: 1.0})
    assert adapters.applied(None) == (Applied(1, -1.0),)
    assert Adapters([POET, COOK], are_applied=False).applied(None) == ()


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/completion", {"prompt": "a"}),
        ("/v1/completions", {"prompt": "a"}),
        ("/v1/chat/completions", {}),
        ("/v1/messages", {"max_tokens": 9}),
        ("/v1/responses", {"input": "a"}),
        ("/v1/embeddings", {"input": "a"}),
        ("/api/chat", {"stream": False}),
        ("/api/generate", {"prompt": "a", "stream": False}),
        ("/api/embed", {"input": "a"}),
    ],
)
def test_an_adapters_name_picks_it_in_every_dialect(path: str, fields: dict[str, Any]) -> None:
    backend = FakeBackend()
    host = ModelHost("fake", lambda _: backend, adapters=Adapters([POET, COOK], are_applied=False))
    hosts = ModelHosts([host], strict=True)

    def asked(client: TestClient, model: str) -> AdapterSet | None:
        body = {"model": model, "messages": [{"role": "user", "content": "a"}], **fields}
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert "model" not in answer.json() or answer.json()["model"] == model
        return backend.submitted[-1].adapters

    with TestClient(create_app(hosts)) as client:
        wait_until_ready(client, hosts)
        assert asked(client, "cook") == (Applied(1, 0.5),)
        assert asked(client, "fake") == ()
        assert client.post(path, json={"model": "nobody", **fields}).status_code in (400, 404)
