import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.app.fake_backend import FakeBackend, Script
from tests.app.in_process import served

MESSAGES = [{"role": "user", "content": "Hi"}]


def ask(client: TestClient, **fields: Any) -> list[dict[str, Any]]:
    """The choices of an answer, or of all its chunks."""
    answer = client.post("/v1/chat/completions", json={"messages": MESSAGES, **fields})
    assert answer.status_code == 200, answer.text
    if not fields.get("stream"):
        return list(answer.json()["choices"])
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    return [choice for line in lines for choice in json.loads(line)["choices"]]


@pytest.mark.parametrize("stream", [False, True])
def test_guessed_tokens_are_told_with_their_texts(stream: bool) -> None:
    with served(FakeBackend([Script(["ab", "é"])])) as client:
        choices = ask(client, stream=stream, return_drafts=True)
    drafts = [each for choice in choices for each in choice.get("drafts", ())]
    assert drafts == [
        {"token": "a", "source": "heads"},
        {"token": "b", "source": None},
        {"token": "", "source": "heads"},  # half a character
        {"token": "é", "source": None},
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_who_does_not_ask_is_not_told(stream: bool) -> None:
    with served(FakeBackend()) as client:
        choices = ask(client, stream=stream)
    assert not any("drafts" in choice for choice in choices)


def test_each_choice_has_its_own() -> None:
    with served(FakeBackend([Script(["ab"]), Script(["cd"])])) as client:
        choices = ask(client, n=2, return_drafts=True)
    assert ["".join(each["token"] for each in choice["drafts"]) for choice in choices] == [
        "ab",
        "cd",
    ]
