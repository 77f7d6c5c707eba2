"""JSON that validates, the same with and without guesses, alone and in company."""

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from benchmarks.schemas import random_cases
from medusa.engine import client
from medusa.engine.config import EngineConfig
from medusa.engine.events import FinishReason
from medusa.engine.requests import GenerationRequest
from medusa.llama import runtime
from medusa.loading import LoadedModel, open_model
from medusa.sampling.grammars.spec import GrammarSpec
from medusa.sampling.params import SamplingParams
from medusa.speculation.cost import FixedCost
from tests.conftest import THREADS, generate

SCHEMA = {
    "type": "object",
    "properties": {
        "full_name": {"type": "string", "maxLength": 20},
        "age_in_years": {"type": "integer", "minimum": 0, "maximum": 150},
        "favourite_colours": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 3},
    },
    "required": ["full_name", "age_in_years", "favourite_colours"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=[16, 0], ids=["guesses", "plain"])
def loaded(
    model_path: Path, heads_path: Path, request: pytest.FixtureRequest
) -> Iterator[LoadedModel]:
    config = EngineConfig(
        n_slots=8, n_ctx=4096, n_threads=THREADS, draft_nodes=request.param, cost=FixedCost()
    )
    loaded = open_model(model_path, heads_path, config)
    yield loaded
    loaded.close()


WRITTEN: dict[str, object] = {}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_validate_and_neither_guesses_nor_company_change_them(
    loaded: LoadedModel, temperature: float
) -> None:
    make = loaded.grammars.compile(GrammarSpec.json_schema(SCHEMA))
    prompt = tuple(loaded.model.tokenize("A person as JSON:\n"))
    requests = [
        GenerationRequest(
            prompt, SamplingParams(temperature=temperature, seed=seed), 150, constraint=make
        )
        for seed in range(8)
    ]
    together = generate(loaded.engine, requests)
    alone = [generate(loaded.engine, [request])[0] for request in requests[:3]]
    for run in together:
        assert run.finished.reason is FinishReason.STOP
        jsonschema.validate(json.loads(run.text), SCHEMA)
    if not runtime.load().kernels.active:
        return
    assert [run.tokens for run in alone] == [run.tokens for run in together[:3]]
    for seed, run in enumerate(together):
        first = WRITTEN.setdefault(f"{temperature} {seed}", run.tokens)
        assert run.tokens == first


def test_forced_text_is_decoded_at_once(loaded: LoadedModel) -> None:
    make = loaded.grammars.compile(GrammarSpec.json_schema(SCHEMA))
    prompt = tuple(loaded.model.tokenize("A person as JSON:\n"))
    request = GenerationRequest(prompt, SamplingParams(temperature=0), 150, constraint=make)
    usage = generate(loaded.engine, [request])[0].finished.usage
    if loaded.engine.config.draft_nodes:
        assert usage.steps <= 0.7 * usage.completion_tokens
    else:
        assert usage.steps == usage.completion_tokens


def test_a_text_cut_short_by_its_length_says_so(loaded: LoadedModel) -> None:
    make = loaded.grammars.compile(GrammarSpec.json_schema(SCHEMA))
    request = GenerationRequest((1, 2), SamplingParams(temperature=0), 5, constraint=make)
    run = generate(loaded.engine, [request])[0]
    assert run.finished.reason is FinishReason.LENGTH
    assert '{"full_name": "'.startswith(run.text)


@pytest.mark.slow
def test_five_hundred_random_schemas_are_kept_to(loaded: LoadedModel) -> None:
    """Without guesses and one at a time only some of them, since that takes its time."""
    guesses = loaded.engine.config.draft_nodes > 0
    cases = random_cases(63 if guesses else 5)
    requests = [
        GenerationRequest(
            tuple(loaded.model.tokenize(case.prompt)),
            SamplingParams(temperature=1, seed=seed),
            120,
            constraint=loaded.grammars.compile(GrammarSpec.json_schema(case.schema)),
        )
        for seed, case in enumerate(cases)
    ]
    together = client.generate(loaded.engine, requests, parallel=8)
    ended = 0
    for case, answer in zip(cases, together, strict=True):
        if answer.reason is FinishReason.STOP:
            ended += 1
            jsonschema.validate(json.loads(answer.text), case.schema)
    assert ended > len(cases) / 2
    if runtime.load().kernels.active:
        few = range(0, 40, 4)
        alone = client.generate(loaded.engine, [requests[index] for index in few], parallel=1)
        assert [each.tokens for each in alone] == [together[index].tokens for index in few]
        for seed, answer in enumerate(together[:40]):
            assert answer.tokens == WRITTEN.setdefault(f"random {seed}", answer.tokens)
