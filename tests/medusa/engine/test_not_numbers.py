"""Logits that are no numbers end their request; its cells are not used again, nobody else suffers.

The embedding of one token of the model is not a number, and so is what follows that token.
"""

from collections.abc import Iterator

import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.events import Failed, FailureKind, PromptScored
from medusa.engine.requests import GenerationRequest
from medusa.llama.model import Model
from medusa.sampling.params import SamplingParams
from tests.app.tiny_model import write_tiny_model
from tests.conftest import Run, generate
from tests.medusa.engine.conftest import GREEDY, wait_until

BAD = "<|bad|>"
PREFIX = tuple(range(40, 90))
SAMPLED = SamplingParams(temperature=0.8, seed=3, top_k=40)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("broken") / "tiny.gguf"
    write_tiny_model(path, control=(BAD,), broken=BAD)
    model = Model(path)
    yield model
    model.close()


def open_engine(model: Model, flash_attention: bool | None) -> Engine:
    return Engine(
        model,
        config=EngineConfig(
            n_slots=3, n_ctx=512, n_threads=1, draft_nodes=4, flash_attention=flash_attention
        ),
    )


@pytest.fixture
def engine(broken: Model) -> Iterator[Engine]:
    engine = open_engine(broken, None)
    yield engine
    engine.close()


def good(*prompt: int, sampling: SamplingParams = GREEDY, **fields: object) -> GenerationRequest:
    return GenerationRequest(
        prompt or PREFIX,
        sampling,
        max_tokens=30,
        ignore_eos=True,
        **fields,  # type: ignore[arg-type]
    )


def assert_not_numbers(run: Run) -> None:
    failed = run.events[-1]
    assert isinstance(failed, Failed)
    assert failed.kind is FailureKind.NOT_NUMBERS
    assert "not numbers" in failed.message


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_only_the_request_with_the_bad_token_fails(
    engine: Engine, broken: Model, sampling: SamplingParams, place: str
) -> None:
    (bad,) = broken.tokenize(BAD, parse_special=True)
    prompt = {
        "first": (bad, *PREFIX),
        "middle": (*PREFIX, bad, *PREFIX),
        "last": (*PREFIX, bad),
    }[place]
    others = [good(sampling=sampling), good(5, 6, 7, sampling=sampling)]
    alone = [run.tokens for run in generate(engine, others)]
    for _ in range(3):
        runs = generate(engine, [others[0], good(*prompt, sampling=sampling), others[1]])
        assert_not_numbers(runs[1])
        assert [runs[0].tokens, runs[2].tokens] == alone


def test_bad_cells_are_not_used_again(engine: Engine, broken: Model) -> None:
    (bad,) = broken.tokenize(BAD, parse_special=True)
    (first,) = generate(engine, [good(*PREFIX, bad, *PREFIX)])
    assert_not_numbers(first)
    wait_until(lambda: not any(bad in slot.tokens for slot in engine._scheduler.slots))
    (second,) = generate(engine, [good(*PREFIX, 7)])
    assert second.finished.usage.cached_tokens == 0


def test_attention_by_matrix_products_recovers(broken: Model) -> None:
    """It lets a bad cell spoil the neighbours, be it masked or free, but not who comes later."""
    (bad,) = broken.tokenize(BAD, parse_special=True)
    engine = open_engine(broken, flash_attention=False)
    (alone,) = generate(engine, [good()])
    for _ in range(3):
        spoilt, _neighbour = generate(engine, [good(*PREFIX, bad), good(5, 6, 7)])
        assert_not_numbers(spoilt)
        (later,) = generate(engine, [good()])
        assert later.tokens == alone.tokens
    engine.close()


def test_prompts_are_scored_with_numbers_only(engine: Engine, broken: Model) -> None:
    (bad,) = broken.tokenize(BAD, parse_special=True)
    fine = good(prompt_logprobs=1, logprobs=1)
    (alone,) = generate(engine, [fine])
    runs = generate(engine, [good(*PREFIX, bad, *PREFIX, prompt_logprobs=1), fine])
    assert_not_numbers(runs[0])
    first, expected = runs[1].events[0], alone.events[0]
    assert isinstance(first, PromptScored)
    assert isinstance(expected, PromptScored)
    assert first.logprobs == expected.logprobs
