import math
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.dialects.openai.sampling_fields import SamplingFields
from medusa.sampling.params import SamplingParams
from tests.app.fake_backend import FakeBackend
from tests.app.in_process import served


def asked(client: TestClient, fields: dict[str, Any]) -> Any:
    body = {"prompt": "Hi", "max_tokens": 2} | fields
    return client.post("/v1/completions", json=body)


def sampling(fields: dict[str, Any], default: SamplingParams | None = None) -> SamplingParams:
    """How the tokens of a request with these fields are chosen."""
    backend = FakeBackend(sampling=default or SamplingParams())
    with served(backend) as client:
        answer = asked(client, fields)
        assert answer.status_code == 200, answer.text
    return backend.submitted[0].sampling


def test_what_is_not_said_is_the_servers_default() -> None:
    default = SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, seed=3)
    assert sampling({}, default) == default
    nothing = dict.fromkeys(SamplingFields.model_fields)
    assert sampling(nothing, default) == default
    assert sampling({"temperature": 0, "top_k": -1, "top_p": 1.0, "min_p": 0}, default) == (
        SamplingParams(temperature=0, seed=3)
    )


@pytest.mark.parametrize(
    ("fields", "seed"),
    [
        ({"seed": 7}, 7),
        ({"seed": -1}, None),
        ({"seed": -7}, 2**64 - 7),
        ({"seed": -(2**63)}, 2**63),
        ({"seed": 2**64 - 1}, 2**64 - 1),
    ],
)
def test_seeds_of_all_signs(fields: dict[str, Any], seed: int | None) -> None:
    assert sampling(fields).seed == seed


@pytest.mark.parametrize(
    ("bias", "expected"),
    [
        ({"5": 1, "6": -2.5}, {5: 1.0, 6: -2.5}),
        ([[5, 1], [6, -2.5]], {5: 1.0, 6: -2.5}),
        ({"ab": 3}, {97: 3.0, 98: 3.0}),
        ([["a", 3], [5, False]], {97: 3.0, 5: -math.inf}),
        ({}, {}),
        ([], {}),
    ],
)
def test_biases_by_id_and_by_text(bias: Any, expected: dict[int, float]) -> None:
    assert sampling({"logit_bias": bias}).logit_bias == expected


@pytest.mark.parametrize(
    "bias",
    [5, "a", [5], [[5]], [[5, 1, 2]], {"5": 1000}, {"5": True}, {"5": "1"}, {"5": None},
     [[True, 1]], [[1.5, 1]], [["", 1]], [[number, 1] for number in range(10_001)]],
)  # fmt: skip
def test_biases_that_are_none_are_refused(bias: Any) -> None:
    with served(FakeBackend()) as client:
        answer = asked(client, {"logit_bias": bias})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "logit_bias"


@pytest.mark.parametrize(
    ("fields", "penalty", "window"),
    [
        ({"repetition_penalty": 1.2}, 1.2, -1),
        ({"repeat_penalty": 1.2}, 1.2, 64),
        ({"repeat_penalty": 1.2, "repetition_penalty": 1.2}, 1.2, -1),
        ({"repeat_penalty": 1.2, "repeat_last_n": -1}, 1.2, -1),
        ({"repetition_penalty": 1.2, "repeat_last_n": 8}, 1.2, 8),
        ({"repeat_last_n": 0}, 1.0, 0),
    ],
)
def test_repetition_penalty_by_both_names(
    fields: dict[str, Any], penalty: float, window: int
) -> None:
    params = sampling(fields)
    assert (params.repetition_penalty, params.penalty_last_n) == (penalty, window)


def test_an_operators_window_counts_where_a_request_names_none() -> None:
    default = SamplingParams(penalty_last_n=256)
    assert sampling({"repeat_penalty": 1.2}, default).penalty_last_n == 256
    assert sampling({"repeat_penalty": 1.2, "repeat_last_n": 8}, default).penalty_last_n == 8


def test_contradicting_repetition_penalties_are_refused() -> None:
    with served(FakeBackend()) as client:
        answer = asked(client, {"repeat_penalty": 1.2, "repetition_penalty": 1.3})
        assert answer.status_code == 400
        assert "contradict" in answer.json()["error"]["message"]


@pytest.mark.parametrize("fields", [{"temperature": 2.5}, {"temperature": 100}, {"top_p": 0}])
def test_limits_are_generous(fields: dict[str, Any]) -> None:
    params = sampling(fields)
    assert {name: getattr(params, name) for name in fields} == fields
