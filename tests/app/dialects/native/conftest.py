"""A tiny model behind a real socket."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from app.backend import LocalBackend
from medusa.engine.config import EngineConfig
from medusa.loading import open_model
from tests.app.over_http import listening
from tests.app.tiny_model import write_tiny_model

CONFIG = EngineConfig(n_slots=2, n_ctx=512, n_threads=1, draft_nodes=0)
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)

Frames = Callable[[str, dict[str, Any]], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_tiny_model(path, chat_template=TEMPLATE)
    with (
        listening(LocalBackend(open_model(path, config=CONFIG))) as server,
        httpx.Client(base_url=server.url, timeout=600) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def frames(http: httpx.Client) -> Frames:
    """The frames of a streamed answer."""

    def streamed(path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        lines = http.post(path, json=body | {"stream": True}).text.splitlines()
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        return [json.loads(each) for each in data if each != "[DONE]"]

    return streamed
