"""Speculation never changes the output: the same tokens with and without guesses.

Shown twice. On the default model as it is served, with our CPU kernels: there a token's logits are
the same to the bit whatever shares its batch, so tokens and log probabilities must be equal.
And on an f32 copy with an f32 KV cache and llama.cpp's own attention: there logits move by 1e-5,
and a token may differ only where the two best were within 1e-2 of each other, in at most 2 prompts
of 100. (An f16 copy will not do: llama.cpp rounds activations to f16, so logits move by 5e-3
between batches, by 2e-2 where a batch has one row.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.events import TokenLogprob
from medusa.engine.requests import GenerationRequest
from medusa.llama import runtime
from medusa.llama.base_weights import BaseWeights
from medusa.llama.model import Model
from medusa.llama.params import CacheType
from medusa.sampling.params import SamplingParams
from medusa.sampling.sampler import Sampler
from medusa.speculation.cost import FixedCost
from medusa.speculation.heads.guessing import Heads
from medusa.speculation.heads.header import HeadsHeader, Variant
from medusa.speculation.heads.loading import load_heads
from medusa.speculation.heads.numpy_heads import NumpyHeads
from medusa.speculation.heads.weights import HeadWeights, layout
from medusa.speculation.tree import StaticShape
from medusa.text.chat_template import ChatTemplate
from tests.conftest import THREADS, Run, generate

pytestmark = pytest.mark.slow

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
RunAll = Callable[[Engine, Requests], list[Run]]


@dataclass(frozen=True)
class Numerics:
    """A setting in which rounding does not depend on the batch, and what the model writes there."""

    model: Model
    config: EngineConfig
    exact: bool
    requests: Requests
    plain_greedy: list[Run]
    plain_sampled: list[Run]

    def engine(self, heads: Heads | None, **options: Any) -> Engine:
        """An engine that speculates as much as it can."""
        config = replace(self.config, draft_nodes=8, cost=FixedCost(), **options)
        return Engine(self.model, heads, config)


def random_hydra_heads(model: Model) -> NumpyHeads:
    """Heads of the right shape that know nothing: almost all that they guess is wrong."""
    rng = np.random.default_rng(0)
    header = HeadsHeader(
        variant=Variant.HYDRA,
        n_heads=3,
        n_layers=2,
        n_embd=model.n_embd,
        n_vocab=model.n_vocab,
        base_name="random",
        base_fingerprint="random",
        draft_tokens=rng.choice(model.n_vocab, 1024, replace=False).astype(np.int32),
        width=64,
    )
    values = {spec.name: rng.standard_normal(spec.shape, np.float32) / 8 for spec in layout(header)}
    return NumpyHeads(HeadWeights.of(header, values), BaseWeights(model.path))


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def sampled(requests: Requests) -> Requests:
    return [replace(request, sampling=SAMPLED) for request in requests]


def alone(engine: Engine, requests: Requests) -> list[Run]:
    return [generate(engine, [request])[0] for request in requests]


def together(engine: Engine, requests: Requests) -> list[Run]:
    return generate(engine, requests)


@pytest.fixture(scope="module", params=["q4_1, our kernels", "f32, llama.cpp's attention"])
def numerics(
    request: pytest.FixtureRequest, model: Model, f32_model: Model, template: ChatTemplate
) -> Numerics:
    exact = request.param.startswith("q4_1")
    if exact and not runtime.load().kernels.active:
        pytest.skip(f"our kernels do not run here: {runtime.load().kernels.reason}")
    config = EngineConfig(n_slots=8, n_ctx=4096, n_threads=THREADS, draft_nodes=0)
    if not exact:
        config = replace(config, flash_attention=False, cache_type=CacheType.F32)
    used = model if exact else f32_model
    # The f32 copy is slow, and what can be seen of our kernels is seen on the other.
    questions = QUESTIONS[::3] if not exact and runtime.load().kernels.active else QUESTIONS
    requests = [
        GenerationRequest(
            tuple(used.tokenize(template.render([user(text)]), parse_special=True)),
            SamplingParams(temperature=0),
            max_tokens=N_TOKENS,
            logprobs=2,
        )
        for text in questions
    ]
    engine = Engine(used, config=config)
    greedy, drawn = together(engine, requests), together(engine, sampled(requests))
    engine.close()
    return Numerics(used, config, exact, requests, greedy, drawn)


def acceptance(runs: Sequence[Run]) -> float:
    """Accepted drafts per decode."""
    usages = [run.finished.usage for run in runs]
    return sum(u.accepted_drafts for u in usages) / sum(u.steps for u in usages)


def logprobs(run: Run) -> list[TokenLogprob]:
    return [entry for delta in run.deltas for entry in delta.logprobs]


def assert_same(plain: Sequence[Run], speculative: Sequence[Run], *, exact: bool) -> None:
    """Equal tokens for every prompt, but for a flip between two logits that were nearly equal."""
    flips = 0
    for expected, actual in zip(plain, speculative, strict=True):
        if expected.tokens == actual.tokens:
            assert expected.text == actual.text
            assert not exact or logprobs(expected) == logprobs(actual)
            continue
        assert not exact, "tokens differ"
        flips += 1
        pairs = zip(expected.tokens, actual.tokens, strict=False)
        place = next(i for i, (a, b) in enumerate(pairs) if a != b)
        (_, best), (_, second) = logprobs(expected)[place].top[:2]
        assert best - second < 1e-2, f"token {place} differs without being a tie"
    assert flips <= len(plain) * 2 / 100, f"{flips} of {len(plain)} prompts differ"


@pytest.mark.parametrize(
    ("run", "options", "accepted"),
    [
        (alone, {}, 0.25),
        (together, {}, 0.08),
        (together, {"tree_shape": STATIC}, 0.08),
    ],
    ids=["alone", "8 at once", "8 at once, static tree"],
)
def test_speculation_never_changes_greedy_text(
    numerics: Numerics, heads_path: Path, run: RunAll, options: dict[str, Any], accepted: float
) -> None:
    engine = numerics.engine(load_heads(heads_path, numerics.model), **options)
    speculative = run(engine, numerics.requests)
    engine.close()
    assert acceptance(speculative) > accepted
    assert_same(numerics.plain_greedy, speculative, exact=numerics.exact)


def test_lookup_alone_never_changes_greedy_text(numerics: Numerics) -> None:
    engine = numerics.engine(None)
    count = 8
    speculative = together(engine, numerics.requests[:count])
    engine.close()
    assert acceptance(speculative) > 0.02
    assert_same(numerics.plain_greedy[:count], speculative, exact=numerics.exact)


@pytest.mark.parametrize("run", [alone, together], ids=["alone", "8 at once"])
def test_wrong_guesses_never_change_greedy_text(numerics: Numerics, run: RunAll) -> None:
    engine = numerics.engine(random_hydra_heads(numerics.model), lookup=False)
    count = 2 if run is alone else 8
    speculative = run(engine, numerics.requests[:count])
    engine.close()
    usages = [each.finished.usage for each in speculative]
    assert sum(u.rejected_drafts for u in usages) > 2 * sum(u.accepted_drafts for u in usages)
    assert_same(numerics.plain_greedy[:count], speculative, exact=numerics.exact)


@pytest.mark.parametrize("run", [alone, together], ids=["alone", "8 at once"])
def test_speculation_never_changes_seeded_sampling(
    numerics: Numerics, heads_path: Path, run: RunAll
) -> None:
    engine = numerics.engine(load_heads(heads_path, numerics.model))
    count = 8 if run is alone else len(numerics.requests)
    speculative = run(engine, sampled(numerics.requests[:count]))
    engine.close()
    assert acceptance(speculative) > 0.05
    for expected, actual in zip(numerics.plain_sampled[:count], speculative, strict=True):
        assert expected.tokens == actual.tokens


def test_batching_never_changes_the_text(numerics: Numerics) -> None:
    engine = Engine(numerics.model, config=numerics.config)
    count = 8
    runs = alone(engine, numerics.requests[:count])
    engine.close()
    assert_same(numerics.plain_greedy[:count], runs, exact=numerics.exact)


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
    config = EngineConfig(n_slots=1, n_ctx=1024, n_threads=THREADS, cost=FixedCost())
    engine = Engine(model, load_heads(heads_path, model), config)
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
