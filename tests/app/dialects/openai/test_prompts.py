"""Prompts in all the shapes that clients send."""

from typing import Any

import pytest

from tests.app.fake_backend import FakeBackend
from tests.app.in_process import served


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("ab", [[97, 98]]),
        ([97, 98], [[97, 98]]),
        (["a", "b"], [[97], [98]]),
        ([[97, 98], [99]], [[97, 98], [99]]),
        ([97, "bc", 100], [[97, 98, 99, 100]]),
        (["ab", 99], [[97, 98, 99]]),
        ([[97], "b", ["c", 100]], [[97], [98], [99, 100]]),
        ({"prompt_string": "ab"}, [[97, 98]]),
        (["a", {"prompt_string": "b", "multimodal_data": []}], [[97], [98]]),
    ],
)
def test_every_shape_of_prompt_is_continued(prompt: Any, tokens: list[list[int]]) -> None:
    backend = FakeBackend()
    with served(backend) as client:
        answer = client.post("/v1/completions", json={"prompt": prompt})
        assert answer.status_code == 200, answer.text
    assert [list(request.prompt) for request in backend.submitted] == tokens


@pytest.mark.parametrize(
    "prompt",
    [
        [],
        [[]],
        [True],
        [1.5],
        {"text": "a"},
        ["a", []],
        {"prompt_string": "a", "multimodal_data": ["x"]},
    ],
)
def test_what_is_no_prompt_is_refused(prompt: Any) -> None:
    with served(FakeBackend()) as client:
        answer = client.post("/v1/completions", json={"prompt": prompt})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt"


def test_a_mixed_prompt_is_given_back_as_it_was() -> None:
    with served(FakeBackend()) as client:
        body = {"prompt": [97, "bc", 100], "echo": True}
        assert (
            client.post("/v1/completions", json=body).json()["choices"][0]["text"]
            == "abcdHello there"
        )
