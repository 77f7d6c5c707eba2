"""Conversations that outnumber the slots, over HTTP: real servers on a tiny model."""

from pathlib import Path

import pytest

from tests.app.conftest import Server, running_server
from tests.app.exact_model import write_long_model

TURNS = 3
OPTIONS = ("--parallel", "2", "--ctx-size", "3000")
TOPICS = [f"{letter * 3} is what this conversation is all about. " * 6 for letter in "abcdefghijkl"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_long_model(path, 2000)
    return str(path)


def ask(server: Server, prompt: str) -> tuple[str, int]:
    """The answer, and how many tokens of the prompt were cached."""
    body = {"prompt": prompt, "max_tokens": 1, "temperature": 0, "ignore_eos": True}
    answer = server.http.post("/v1/completions", json=body).raise_for_status().json()
    details = answer["usage"]["prompt_tokens_details"]
    return answer["choices"][0]["text"], details["cached_tokens"]


class Talks:
    """Conversations that take turns, each of which says more and is answered with a word."""

    def __init__(self) -> None:
        self.texts = list(TOPICS)
        self.answers: list[str] = []

    def go_on(self, server: Server) -> list[int]:
        """A turn of each; returns how many tokens of each prompt were cached."""
        answers, cached = zip(*(ask(server, text) for text in self.texts), strict=True)
        self.answers += answers
        self.texts = [f"{text} And then number {len(self.answers)}?" for text in self.texts]
        return list(cached)


def test_twelve_conversations_over_two_slots(tiny: str, tmp_path: Path) -> None:
    talks, alone = Talks(), Talks()
    with running_server(tmp_path, tiny, *OPTIONS) as server:
        assert max(talks.go_on(server)) < 100
        for _ in range(TURNS - 1):
            assert min(talks.go_on(server)) >= 200
        server.wait_for("prompt_cache_hits_total", (TURNS - 1) * len(TOPICS))
        assert server.metric("prompt_cache_hits_total") == (TURNS - 1) * len(TOPICS)
        assert server.metric("prompt_cache_tokens_total") >= 200 * (TURNS - 1) * len(TOPICS)
        assert server.metric("prompt_cache_prompts") == len(TOPICS) - 2
        assert server.metric("prompt_cache_bytes") > 0
    with running_server(tmp_path, tiny, *OPTIONS, "--prompt-cache-ram", "0") as server:
        for _ in range(TURNS):
            assert max(alone.go_on(server)) < 100
        assert server.metric("prompt_cache_prompts") == 0
    assert talks.answers == alone.answers, "what is restored is what was computed"


def test_conversations_survive_a_restart(tiny: str, tmp_path: Path) -> None:
    folder, talks = tmp_path / "prompts", Talks()
    options = (*OPTIONS, "--prompt-cache-dir", str(folder))
    with running_server(tmp_path, tiny, *options) as server:
        talks.go_on(server)
        talks.go_on(server)
    assert len(list(folder.iterdir())) == len(TOPICS)
    with running_server(tmp_path, tiny, *options) as server:
        assert f"in {folder}" in server.log.read_text()
        assert min(talks.go_on(server)) >= 200
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with running_server(tmp_path, tiny, *options) as server:
        assert max(talks.go_on(server)) < 100
