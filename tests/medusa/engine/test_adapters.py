"""LoRA adapters: what llama.cpp makes of them, alone and in company, with guesses and without."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Format

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.requests import GenerationRequest
from medusa.errors import InvalidRequestError
from medusa.llama import runtime
from medusa.llama.adapters import AdapterSet, Applied, adapter_set
from medusa.llama.model import Model
from medusa.sampling.params import SamplingParams
from medusa.speculation.cost import FixedCost
from tests.adapters import greedy_by_llama_cpp, write_adapter
from tests.architectures.models import MODELS
from tests.architectures.requests import random_tokens
from tests.architectures.writer import write_model
from tests.conftest import generate, submit

GREEDY = SamplingParams(temperature=0)
SEEDED = SamplingParams(temperature=1.0, top_p=0.9, seed=7)
N_TOKENS = 24
SETS: Sequence[AdapterSet] = (
    (),
    (Applied(0, 1.0),),
    (Applied(0, 0.25),),
    (Applied(1, 1.0),),
    (Applied(0, 0.5), Applied(1, -0.5)),
    (Applied(2, 1.0),),
)

PROMPTS = [tuple(random_tokens(random.Random(seed), 30)) for seed in range(3)]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A model, and three adapters of different kinds for it."""
    folder = tmp_path_factory.mktemp("adapters")
    base = folder / "base.gguf"
    write_model(MODELS["llama"], base)
    kinds = [(Format.F16, 8), (Format.F32, 4), (Format.BF16, 16)]
    adapters = [
        write_adapter(folder / f"{seed}.gguf", base, kind=kind, rank=rank, seed=seed, size=0.5)
        for seed, (kind, rank) in enumerate(kinds)
    ]
    return [base, *adapters]


@pytest.fixture(scope="module")
def model(paths: list[Path]) -> Iterator[Model]:
    model = Model(paths[0])
    model.load_adapters(paths[1:])
    yield model
    model.close()


@pytest.fixture(scope="module")
def engine(model: Model) -> Iterator[Engine]:
    """One that guesses as much as it can."""
    config = EngineConfig(n_slots=4, n_ctx=2048, n_threads=2, draft_nodes=8, cost=FixedCost())
    engine = Engine(model, config=config)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def plain(model: Model) -> Iterator[Engine]:
    engine = Engine(model, config=EngineConfig(n_slots=1, n_ctx=512, n_threads=2, draft_nodes=0))
    yield engine
    engine.close()


def requests(sampling: SamplingParams) -> list[GenerationRequest]:
    return [
        GenerationRequest(
            prompt, sampling, max_tokens=N_TOKENS, ignore_eos=True, logprobs=0, adapters=adapters
        )
        for prompt in PROMPTS
        for adapters in SETS
    ]


def need_our_kernels() -> None:
    if not runtime.load().kernels.active:
        pytest.skip(f"our kernels do not run here: {runtime.load().kernels.reason}")


def test_answers_are_those_of_llama_cpp(engine: Engine, paths: list[Path]) -> None:
    need_our_kernels()
    runs = generate(engine, requests(GREEDY))
    answers = set()
    for request, run in zip(requests(GREEDY), runs, strict=True):
        scaled = [(paths[1 + each.id], each.scale) for each in request.adapters or ()]
        expected = greedy_by_llama_cpp(paths[0], scaled, request.prompt, N_TOKENS)
        assert run.tokens == expected, request.adapters
        answers.add(tuple(run.tokens))
    assert len(answers) == len(runs), "the adapters of this test change nothing"


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED])
def test_guesses_and_company_change_nothing(
    engine: Engine, plain: Engine, sampling: SamplingParams
) -> None:
    need_our_kernels()
    assert engine.exactness.exact
    together = generate(engine, requests(sampling))
    alone = [generate(plain, [request])[0] for request in requests(sampling)]
    for one, other in zip(together, alone, strict=True):
        assert one.tokens == other.tokens
        assert one.generated.logprobs == other.generated.logprobs


def test_a_prefix_is_reused_with_the_same_adapters_only(engine: Engine, plain: Engine) -> None:
    prompt = tuple(random_tokens(random.Random(9), 200))
    for adapters in SETS:
        request = GenerationRequest(prompt, GREEDY, max_tokens=4, adapters=adapters)
        first, again = (generate(engine, [request])[0] for _ in range(2))
        assert first.finished.usage.cached_tokens == 0
        assert again.finished.usage.cached_tokens == len(prompt) - 1
        assert first.tokens == again.tokens == generate(plain, [request])[0].tokens


def test_a_scale_of_0_is_the_model_as_it_is(engine: Engine) -> None:
    assert adapter_set({0: 0.0, 1: 0.0}) == ()
    assert adapter_set({1: 0.5, 0: 1.0}) == (Applied(0, 1.0), Applied(1, 0.5))
    request = GenerationRequest(PROMPTS[0], GREEDY, max_tokens=N_TOKENS, ignore_eos=True)
    by_zero = replace(request, adapters=(Applied(0, 0.0),))
    assert generate(engine, [by_zero])[0].tokens == generate(engine, [request])[0].tokens


def test_an_unknown_adapter_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="no adapter 3; this model has 3"):
        submit(engine, [GenerationRequest((1, 2), adapters=(Applied(3, 1.0),))])
