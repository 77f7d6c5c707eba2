"""Speculation never changes the output: the same tokens with and without Medusa heads.

Run where a token's logits hardly depend on what else is in the batch: on an F16 copy of the default
model, without flash attention, with an f32 KV cache, and with at least two rows in every decode
(llama.cpp computes a single row by another routine, which alone moves logits by 0.02). A token may
differ only where the two best logits were within 1e-2, and in at most 2 prompts of 100.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medusa.chat import ChatTemplate
from medusa.engine import Engine, EngineConfig
from medusa.heads import load_heads
from medusa.llama import CacheType, Model
from medusa.requests import GenerationRequest
from medusa.sampling import Sampler, SamplingParams
from medusa.tree import BestFirstShape, StaticShape, TreeShape
from tests.conftest import THREADS, Run, generate

QUESTIONS = (
    "Explain how a bicycle stays upright.",
    "What is the capital of France?",
    "Write a short story about a lighthouse keeper.",
    "List five uses for a paper clip.",
    "How do I boil an egg?",
    "Describe the water cycle.",
    "Why is the sky blue?",
    "Give me a recipe for pancakes.",
    "What is the difference between a crocodile and an alligator?",
    "Write a poem about autumn.",
    "Explain photosynthesis to a child.",
    "What are the planets of the solar system?",
    "How does a computer store numbers?",
    "What should I pack for a week at the sea?",
    "Write an email asking for a day off.",
    "What is 17 times 23? Show the steps.",
    "Translate 'good morning' into Spanish, French and German.",
    "Summarise the story of Little Red Riding Hood.",
    "Why do cats purr?",
    "Write a Python function that reverses a string.",
    "Name three famous painters and one work of each.",
)
N_TOKENS = 128
STATIC = StaticShape(((0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 0, 0, 0)))
SAMPLED = SamplingParams(
    temperature=0.8,
    top_p=0.95,
    top_k=60,
    presence_penalty=0.3,
    frequency_penalty=0.2,
    repetition_penalty=1.1,
    seed=1234,
)


Requests = list[GenerationRequest]


@pytest.fixture(scope="module")
def requests(f16_model: Model, template: ChatTemplate) -> Requests:
    return [
        GenerationRequest(
            tuple(f16_model.tokenize(template.render([user(text)]), parse_special=True)),
            SamplingParams(temperature=0),
            max_tokens=N_TOKENS,
            logprobs=2,
        )
        for text in QUESTIONS
    ]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def sampled(requests: Requests) -> Requests:
    return [replace(request, sampling=SAMPLED) for request in requests]


def make_engine(model: Model, heads: Path | None, shape: TreeShape | None = None) -> Engine:
    config = EngineConfig(
        n_slots=8,
        n_ctx=4096,
        n_threads=THREADS,
        draft_nodes=8 if heads else 0,
        tree_shape=shape or BestFirstShape(),
        flash_attention=False,
        cache_type=CacheType.F32,
    )
    return Engine(model, load_heads(heads, model) if heads else None, config)


@pytest.fixture(scope="module")
def plain(f16_model: Model, requests: Requests) -> Iterator[dict[str, list[Run]]]:
    """What the model writes without speculation."""
    engine = make_engine(f16_model, None)
    yield {
        "greedy": alone(engine, requests),
        "sampled": together(engine, sampled(requests)),
    }
    engine.close()


def alone(engine: Engine, requests: Requests) -> list[Run]:
    """One request at a time, beside a short endless one that keeps decodes at two rows."""
    runs = []
    for request in requests:
        run = Run()
        company = GenerationRequest((1, 2, 3), SamplingParams(temperature=0), ignore_eos=True)
        ticket = engine.submit([company, request], [Run(), run])[0]
        assert run.ended.wait(600), "the engine hangs"
        ticket.cancel()
        runs.append(run)
    return runs


def together(engine: Engine, requests: Requests) -> list[Run]:
    return generate(engine, requests)


def acceptance(runs: Sequence[Run]) -> float:
    """Accepted drafts per decode."""
    usages = [run.finished.usage for run in runs]
    return sum(u.accepted_drafts for u in usages) / sum(u.steps for u in usages)


def assert_same(plain: Sequence[Run], speculative: Sequence[Run]) -> None:
    """Equal tokens for every prompt, but for a flip between two logits that were nearly equal."""
    flips = 0
    for expected, actual in zip(plain, speculative, strict=True):
        if expected.tokens == actual.tokens:
            assert expected.text == actual.text
            continue
        flips += 1
        pairs = zip(expected.tokens, actual.tokens, strict=False)
        place = next(i for i, (a, b) in enumerate(pairs) if a != b)
        entries = [entry for delta in expected.deltas for entry in delta.logprobs]
        (_, best), (_, second) = entries[place].top[:2]
        assert best - second < 1e-2, f"token {place} differs without being a tie"
    assert flips <= len(plain) * 2 / 100, f"{flips} of {len(plain)} prompts differ"


@pytest.mark.parametrize(
    ("run", "shape"),
    [(alone, BestFirstShape()), (together, BestFirstShape()), (together, STATIC)],
    ids=["alone", "8 at once", "8 at once, static tree"],
)
def test_speculation_never_changes_greedy_text(
    f16_model: Model,
    heads_path: Path,
    requests: Requests,
    plain: dict[str, list[Run]],
    run: Callable[[Engine, Requests], list[Run]],
    shape: TreeShape,
) -> None:
    engine = make_engine(f16_model, heads_path, shape)
    speculative = run(engine, requests)
    engine.close()
    assert acceptance(speculative) > (0.25 if run is alone else 0.08)
    assert_same(plain["greedy"], speculative)


@pytest.mark.parametrize(
    ("run", "count"), [(alone, 8), (together, len(QUESTIONS))], ids=["alone", "8 at once"]
)
def test_speculation_never_changes_seeded_sampling(
    f16_model: Model,
    heads_path: Path,
    requests: Requests,
    plain: dict[str, list[Run]],
    run: Callable[[Engine, Requests], list[Run]],
    count: int,
) -> None:
    engine = make_engine(f16_model, heads_path)
    speculative = run(engine, sampled(requests[:count]))
    engine.close()
    assert acceptance(speculative) > 0.05
    for expected, actual in zip(plain["sampled"][:count], speculative, strict=True):
        assert expected.tokens == actual.tokens


def test_on_the_quantised_default_every_token_is_the_samplers_choice_from_its_own_step(
    model: Model, heads_path: Path, template: ChatTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the numerics: what is emitted is what the sampler says of the rows it was given."""
    chosen: list[tuple[int, int]] = []
    real = Sampler.sample

    def sample(sampler: Sampler, logits: np.ndarray) -> int:
        expected = Sampler(sampler.params, [])
        token = real(sampler, logits)
        chosen.append((token, real(expected, logits)))
        return token

    monkeypatch.setattr(Sampler, "sample", sample)
    engine = Engine(
        model, load_heads(heads_path, model), EngineConfig(n_slots=1, n_ctx=1024, n_threads=THREADS)
    )
    for text in QUESTIONS[:4]:
        chosen.clear()
        prompt = tuple(model.tokenize(template.render([user(text)]), parse_special=True))
        request = GenerationRequest(prompt, SamplingParams(temperature=0), N_TOKENS)
        (run,) = generate(engine, [request])
        assert all(token == expected for token, expected in chosen)
        emitted = [token for token, _ in chosen if token not in model.eog_tokens]
        assert run.tokens == emitted
        assert run.finished.usage.accepted_drafts > 0
        assert run.finished.usage.completion_tokens == len(chosen)
    engine.close()
