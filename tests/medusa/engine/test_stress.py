"""Many requests of all kinds at once on an engine that is too small for them, against each alone.

Four slots share a KV cache that holds two or three of the requests, so that they wait, step back
and come again; heads that know nothing draw trees of wrong guesses beside lookups that are often
right; some requests are cancelled, others paused for a while. What is left must be what a plain
engine says of each alone.
"""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.requests import GenerationRequest
from medusa.llama import runtime
from medusa.llama.model import Model
from medusa.sampling.params import SamplingParams
from medusa.speculation.cost import FixedCost
from tests.conftest import Run, generate, submit
from tests.medusa.test_losslessness import random_hydra_heads

N_REQUESTS = 60
SMALL = EngineConfig(n_slots=4, n_ctx=216, n_threads=1, draft_nodes=6, cost=FixedCost())
PLAIN = EngineConfig(n_slots=1, n_ctx=210, n_threads=1, draft_nodes=0)  # as long a context

BEGINNINGS = (
    "The old lighthouse keeper counted: one, two, three, one, two, three, one, two, three,",
    "Q: What is the capital of France?\nA: Paris.\nQ: What is the capital of Italy?\nA: Rome.\nQ:",
    "def add(a, b):\n    return a + b\n\ndef subtract(a, b):\n    return a - b\n\ndef multiply(",
    "",
)
ENDINGS = (
    "",
    " and then",
    " What is the capital of Spain?\nA:",
    "\n\n# more",
    " \u00e9\u4e16\u754c",
)


def random_request(dice: random.Random, model: Model) -> GenerationRequest:
    prompt = model.tokenize(dice.choice(BEGINNINGS) + dice.choice(ENDINGS)) or [1]
    sampling = SamplingParams(temperature=0)
    if dice.random() < 0.5:
        sampling = SamplingParams(
            temperature=dice.choice([0.3, 0.8, 1.2]),
            top_k=dice.choice([0, 5, 40]),
            top_p=dice.choice([1.0, 0.9]),
            min_p=dice.choice([0.0, 0.05]),
            presence_penalty=dice.choice([0.0, 0.5]),
            repetition_penalty=dice.choice([1.0, 1.2]),
            logit_bias=dice.choice([{}, {28: 3.0}]),
            seed=dice.randrange(1000),
        )
    return GenerationRequest(
        tuple(prompt),
        sampling,
        max_tokens=dice.choice([0, 1, 2, 8, 20, 60, None]),
        stop=dice.choice([(), (), ("\n",), (" the", "three, one"), (", ",)]),
        ignore_eos=dice.random() < 0.5,
        logprobs=dice.choice([None, 0, 3]),
        prompt_logprobs=dice.choice([None, None, None, 0, 2]),
    )


@pytest.fixture
def small(model: Model) -> Iterator[Engine]:
    if not runtime.load().kernels.active:
        pytest.skip(f"results depend on the batch: {runtime.load().kernels.reason}")
    engine = Engine(model, random_hydra_heads(model), SMALL)
    yield engine
    engine.close()


@pytest.mark.parametrize("seed", [0])
def test_a_crowd_on_a_cramped_engine_gets_what_each_gets_alone(
    small: Engine, model: Model, seed: int
) -> None:
    dice = random.Random(seed)
    requests = [random_request(dice, model) for _ in range(N_REQUESTS)]
    runs: list[Run] = []
    cancelled: set[int] = set()
    while len(runs) < len(requests):  # in groups, as fast as they are taken in
        group = requests[len(runs) : len(runs) + dice.randint(1, 8)]
        runs += submit(small, group)
        if dice.random() < 0.5:
            victim = dice.randrange(len(runs))
            if not runs[victim].ended.wait(dice.choice([0.0, 0.02])):
                cancelled.add(victim)
                small.cancel([runs[victim].id])
        small.set_paused([run.id for run in runs], False)
        small.set_paused([run.id for run in dice.sample(runs, len(runs) // 3)], True)
    small.set_paused([run.id for run in runs], False)
    for index, run in enumerate(runs):
        assert index in cancelled or run.ended.wait(600), "a request never ends"

    plain = Engine(model, config=PLAIN)
    assert plain.max_context == small.max_context
    for index, (request, run) in enumerate(zip(requests, runs, strict=True)):
        if index in cancelled:
            continue
        (alone,) = generate(plain, [replace(request)])
        expected, actual = alone.generated, run.generated
        assert actual.tokens == expected.tokens, request
        assert actual.text == expected.text
        assert actual.reason == expected.reason
        assert actual.logprobs == expected.logprobs
        assert actual.prompt_logprobs == expected.prompt_logprobs
        assert actual.end_logprob == expected.end_logprob
        assert actual.usage is not None
        assert expected.usage is not None
        assert actual.usage.prompt_tokens == expected.usage.prompt_tokens
        assert actual.usage.completion_tokens == expected.usage.completion_tokens
    plain.close()
    assert len(cancelled) < N_REQUESTS / 3
    usages = [u for u in (run.generated.usage for run in runs) if u is not None]
    assert sum(u.accepted_drafts for u in usages) > 20
    assert sum(u.rejected_drafts for u in usages) > 20
