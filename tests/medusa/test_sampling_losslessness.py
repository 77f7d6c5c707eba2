"""On the default model with our kernels, whose logits do not depend on company: every sampler and
every prediction give the tokens that plain decoding gives."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.requests import GenerationRequest
from medusa.llama import runtime
from medusa.llama.model import Model
from medusa.sampling.breakers import DEFAULT_BREAKERS, breakers_of
from medusa.sampling.params import Dry, SamplingParams
from medusa.speculation.cost import FixedCost
from medusa.speculation.heads.guessing import Heads
from medusa.speculation.heads.loading import load_heads
from medusa.text.chat_template import ChatTemplate
from tests.conftest import THREADS, Run, generate

QUESTIONS = ("List the days of the week, twice.", "Why is the sky blue?")
N_TOKENS = 80
SETTINGS = (
    SamplingParams(temperature=0, dry=Dry(0.8)),
    SamplingParams(temperature=0, repetition_penalty=1.2, penalty_last_n=32, min_tokens=40),
    SamplingParams(temperature=0.7, seed=1, xtc_probability=0.3, top_p=0.95),
    SamplingParams(temperature=1.0, seed=2, mirostat=2, mirostat_tau=3.0),
    SamplingParams(temperature=0.8, seed=3, typical_p=0.9, top_n_sigma=2.0, dynatemp_range=0.3),
)


@pytest.fixture(scope="module")
def requests(model: Model, template: ChatTemplate) -> list[GenerationRequest]:
    if not runtime.load().kernels.active:
        pytest.skip(f"our kernels do not run here: {runtime.load().kernels.reason}")

    def tokenize(text: str) -> Sequence[int]:
        return model.tokenize(text, add_special=False)

    breakers = breakers_of(DEFAULT_BREAKERS, model.pieces, tokenize)
    return [
        GenerationRequest(
            tuple(model.tokenize(template.render([{"role": "user", "content": text}]))),
            replace(sampling, dry=replace(sampling.dry, breakers=breakers)),
            max_tokens=N_TOKENS,
        )
        for text in QUESTIONS
        for sampling in SETTINGS
    ]


def answered(
    model: Model, requests: list[GenerationRequest], heads: Heads | None, n_nodes: int
) -> list[Run]:
    config = EngineConfig(
        n_slots=4, n_ctx=4096, n_threads=THREADS, draft_nodes=n_nodes, cost=FixedCost()
    )
    engine = Engine(model, heads, config)
    runs = generate(engine, requests)
    engine.close()
    return runs


def tokens(runs: list[Run]) -> list[list[int]]:
    return [run.tokens for run in runs]


def test_guesses_and_predictions_change_no_token(
    model: Model, heads_path: Path, requests: list[GenerationRequest]
) -> None:
    plain = tokens(answered(model, requests, None, 0))
    heads = load_heads(heads_path, model)
    guessed = answered(model, requests, heads, 8)
    assert tokens(guessed) == plain
    assert sum(run.finished.usage.accepted_drafts for run in guessed) > len(requests)
    edited = [text[:20] + text[10:15] + text[25:] for text in plain]
    predicted = [
        replace(request, prediction=tuple(text), id=f"predicted {number}")
        for number, (request, text) in enumerate(zip(requests, edited, strict=True))
    ]
    told = answered(model, predicted, None, 8)
    assert tokens(told) == plain
    for run, text in zip(told, edited, strict=True):
        found = run.finished.usage.predicted
        assert found is not None
        assert sum(found) == len(text)
        assert found[0] > 0.8 * len(text)
        assert run.finished.usage.steps < 0.5 * len(run.tokens)
