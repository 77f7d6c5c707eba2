import math
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.dialects.openai.sampling_fields import SamplingFields
from app.dialects.openai.usage import total_usage
from medusa.engine.events import Usage
from medusa.sampling.params import Dry, SamplingParams, Stage
from tests.app.fake_backend import FakeBackend
from tests.app.in_process import served

LLAMA_ORDER = (
    Stage.PENALTIES, Stage.DRY, Stage.TOP_N_SIGMA, Stage.TOP_K, Stage.TYPICAL_P, Stage.TOP_P,
    Stage.MIN_P, Stage.XTC, Stage.TEMPERATURE,
)  # fmt: skip


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


def test_every_sampler_is_set_by_its_usual_names() -> None:
    same = {
        "dynatemp_range": 0.5, "dynatemp_exponent": 2.0, "typical_p": 0.9, "top_n_sigma": 1.5,
        "xtc_probability": 0.5, "xtc_threshold": 0.2, "min_keep": 2, "mirostat": 2,
        "mirostat_tau": 4.0, "mirostat_eta": 0.2, "min_tokens": 3,
    }  # fmt: skip
    params = sampling(
        same
        | {"dry_multiplier": 0.8, "dry_base": 2.0, "dry_allowed_length": 3}
        | {"dry_penalty_last_n": -1, "dry_sequence_breakers": ["\n", "x"]}
        | {"allowed_token_ids": [5, 6], "bad_words": ["ab", " c"]}
    )
    assert {name: getattr(params, name) for name in same} == same
    assert params.dry == Dry(0.8, 2.0, 3, -1, {10: ((),), 120: ((),)})
    assert params.allowed_tokens == frozenset({5, 6})
    assert params.bad_words == ((97, 98), (99,), (32, 97, 98), (32, 99))


def test_dry_has_breakers_only_where_it_is_on() -> None:
    assert sampling({}).dry == Dry()
    assert set(sampling({"dry_multiplier": 1}).dry.breakers) == {ord(c) for c in '\n:"*'}
    by_default = SamplingParams(dry=Dry(multiplier=0.5))
    assert set(sampling({}, by_default).dry.breakers) == {ord(c) for c in '\n:"*'}
    assert sampling({"dry_multiplier": 0}, by_default).dry == Dry()


@pytest.mark.parametrize(
    ("samplers", "stages"),
    [
        (["top_k", "temperature"], (Stage.TOP_K, Stage.TEMPERATURE)),
        (["Top-K", "typ_p", "nucleus", "temp"],
         (Stage.TOP_K, Stage.TYPICAL_P, Stage.TOP_P, Stage.TEMPERATURE)),
        ("edskypmxt", LLAMA_ORDER),
        ("penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature", LLAMA_ORDER),
        (["dry", "top_k", "tfs_z", "adaptive_p"], (Stage.DRY, Stage.TOP_K)),
        ([], ()),
    ],
)  # fmt: skip
def test_samplers_come_in_the_order_that_is_asked_for(
    samplers: Any, stages: tuple[Stage, ...]
) -> None:
    assert sampling({"samplers": samplers}).stages == stages


@pytest.mark.parametrize(
    ("samplers", "message"),
    [
        (["infill"], "'infill'"),
        ("kz", "'z'"),
        (["top_k", "top_k"], "twice"),
        (["top_k", "penalties"], "penalties and dry come before"),
        (5, "must be a list"),
    ],
)
def test_samplers_that_are_not_there_are_refused_by_name(samplers: Any, message: str) -> None:
    with served(FakeBackend()) as client:
        error = asked(client, {"samplers": samplers}).json()["error"]
        assert error["param"] == "samplers"
        assert message in error["message"]


def test_stop_tokens_reach_the_backend() -> None:
    backend = FakeBackend()
    with served(backend) as client:
        assert asked(client, {"stop_token_ids": [7, 8]}).status_code == 200
    assert backend.submitted[0].stop_tokens == {7, 8}


def test_a_minimum_length_and_a_format_contradict_each_other() -> None:
    with served(FakeBackend(knows_grammars=True)) as client:
        answer = asked(client, {"min_tokens": 5, "guided_regex": "a"})
        assert "min_tokens" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
@pytest.mark.parametrize(
    "content", ["ab", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]]
)
def test_a_prediction_reaches_the_backend(path: str, content: Any) -> None:
    backend = FakeBackend()
    body = {"prediction": {"type": "content", "content": content}}
    prompt = {"prompt": "Hi"} | {"messages": [{"role": "user", "content": "Hi"}]}
    del prompt["messages" if path == "completions" else "prompt"]
    with served(backend) as client:
        answer = client.post(f"/v1/{path}", json=body | prompt)
        assert answer.status_code == 200, answer.text
    assert backend.submitted[0].prediction == (97, 98)


def test_what_became_of_a_prediction_is_told_in_openais_fields() -> None:
    usage = Usage(5, 0, 9, 2, 3, 4, 0.0, 0.0)
    without = total_usage([usage, usage], 2).completion_tokens_details
    assert (without.accepted_prediction_tokens, without.rejected_prediction_tokens) == (4, 6)
    told = replace(usage, predicted=(0, 8))
    details = total_usage([told, told], 2).completion_tokens_details
    assert (details.accepted_prediction_tokens, details.rejected_prediction_tokens) == (0, 16)
