"""Filling in between two texts, on a tiny model with the tokens for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.backend import LocalBackend
from medusa.engine.config import EngineConfig
from medusa.loading import open_model
from tests.app.fake_backend import FakeBackend
from tests.app.in_process import served
from tests.app.tiny_model import write_tiny_model

CONFIG = EngineConfig(n_slots=1, n_ctx=512, n_threads=1, draft_nodes=0)
FIM = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|repo_name|>", "<|file_sep|>"]
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    path: Path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_tiny_model(path, control=FIM, chat_template=TEMPLATE)
    with served(LocalBackend(open_model(path, config=CONFIG))) as client:
        yield client


def count(client: TestClient, text: str) -> int:
    return len(client.post("/tokenize", json={"content": text}).json()["tokens"])


def test_infill_is_the_models_own_layout(tiny: TestClient) -> None:
    texts = {"input_prefix": "a = ", "input_suffix": "\nx", "prompt": "b"}
    more = {"temperature": 0, "n_predict": 8, "ignore_eos": True}
    answer = tiny.post("/infill", json=texts | more).json()
    laid_out = "<|fim_prefix|>a = b<|fim_suffix|>\nx<|fim_middle|>"
    same = tiny.post("/completion", json={"prompt": laid_out} | more).json()
    assert answer["content"] == same["content"]
    assert answer["tokens_evaluated"] == same["tokens_evaluated"]
    openai = {"prompt": "a = b", "suffix": "\nx", "max_tokens": 8}
    completion = tiny.post("/v1/completions", json=more | openai).json()
    assert completion["choices"][0]["text"] == answer["content"]


def test_other_files_come_first_as_far_as_there_is_room(tiny: TestClient) -> None:
    body = {"input_prefix": "a", "input_suffix": "b", "n_predict": 4, "ignore_eos": True}
    short = [{"filename": "f.py", "text": "ccc"}]
    answer = tiny.post("/infill", json=body | {"input_extra": short}).json()
    text = "<|repo_name|>myproject\n<|file_sep|>f.py\nccc<|file_sep|>filename\n"
    alone = tiny.post("/infill", json=body).json()["tokens_evaluated"]
    assert answer["tokens_evaluated"] == count(tiny, text) + alone
    long = [{"text": "c" * 5000}]
    assert tiny.post("/infill", json=body | {"input_extra": long}).json()["tokens_predicted"] > 0


def test_models_without_such_tokens_say_so() -> None:
    with served(FakeBackend()) as client:
        answer = client.post("/infill", json={"input_prefix": "a", "input_suffix": "b"})
        assert answer.status_code == 501
        answer = client.post("/v1/completions", json={"prompt": "a", "suffix": "b"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "suffix")


def test_props_tell_what_clients_ask_for(tiny: TestClient) -> None:
    props = tiny.get("/props").json()
    assert props["total_slots"] == 1
    assert props["chat_template"] == TEMPLATE
    assert props["default_generation_settings"]["n_ctx"] > 0
