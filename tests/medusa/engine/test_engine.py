import numpy as np
import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.events import Failed, FailureKind, Finished, FinishReason, PromptScored
from medusa.engine.report import StepReport
from medusa.engine.requests import GenerationRequest
from medusa.errors import (
    ContextLengthError,
    EngineStoppedError,
    InvalidRequestError,
    ModelLoadError,
    QueueFullError,
)
from medusa.llama.adapters import Applied
from medusa.llama.model import Model
from medusa.sampling.params import SamplingParams
from medusa.sampling.sampler import Sampler
from tests.conftest import THREADS, generate, submit
from tests.medusa.engine.conftest import GREEDY, wait_until


def test_an_exception_in_one_requests_sampling_ends_that_request_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Sampler.sample

    def sample(sampler: Sampler, logits: np.ndarray) -> int:
        if sampler.params.seed == 666:
            raise RuntimeError("the sampler broke")
        return real(sampler, logits)

    monkeypatch.setattr(Sampler, "sample", sample)
    good = GenerationRequest((1, 2, 3), GREEDY, max_tokens=20, ignore_eos=True)
    bad = GenerationRequest((1, 2, 4), SamplingParams(seed=666), max_tokens=20)
    runs = generate(engine, [good, bad, good])
    failed = runs[1].events[-1]
    assert isinstance(failed, Failed)
    assert (failed.kind, failed.message) == (
        FailureKind.INTERNAL,
        "RuntimeError: the sampler broke",
    )
    for run in (runs[0], runs[2]):
        assert run.finished.usage.completion_tokens == 20
    (after,) = generate(engine, [good])
    assert after.tokens == runs[0].tokens


def test_a_sink_that_raises_ends_its_own_request_alone(engine: Engine) -> None:
    def broken(_event: object) -> None:
        raise RuntimeError("the loop is closed")

    engine.submit([GenerationRequest((1, 2, 3), GREEDY, max_tokens=10, ignore_eos=True)], broken)
    (good,) = generate(
        engine, [GenerationRequest((1, 2, 3), GREEDY, max_tokens=10, ignore_eos=True)]
    )
    assert good.finished.usage.completion_tokens == 10
    wait_until(lambda: engine.n_running == 0)


def test_a_failing_step_ends_what_runs_and_the_engine_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = GenerationRequest((1, 2, 3), GREEDY, max_tokens=10, ignore_eos=True)
    (before,) = generate(engine, [request])

    def broken(*_: object) -> None:
        raise MemoryError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(engine._context, "decode", broken)
        runs = generate(engine, [request, request])
    assert [type(run.events[-1]) for run in runs] == [Failed, Failed]
    (after,) = generate(engine, [request])
    assert after.tokens == before.tokens


def test_an_observer_that_raises_ends_no_request(model: Model) -> None:
    def broken(_report: StepReport) -> None:
        raise RuntimeError("the metrics broke")

    config = EngineConfig(n_slots=1, n_ctx=512, n_threads=THREADS, draft_nodes=0)
    engine = Engine(model, config=config, observer=broken)
    (run,) = generate(engine, [GenerationRequest((1, 2, 3), GREEDY, 10, ignore_eos=True)])
    engine.close()
    assert run.finished.usage.completion_tokens == 10


def test_cancelling_frees_slot_and_queue_place(engine: Engine) -> None:
    endless = GenerationRequest((1, 2, 3), GREEDY, ignore_eos=True)
    runs = submit(engine, [endless] * 5)
    wait_until(lambda: all(run.tokens for run in runs[:3]))
    assert (engine.n_running, engine.n_waiting) == (3, 2)
    engine.cancel(run.id for run in runs[:4])
    wait_until(lambda: len(runs[4].tokens) > 3)
    assert (engine.n_running, engine.n_waiting) == (1, 0)
    counts = [len(run.events) for run in runs[:4]]
    wait_until(lambda: len(runs[4].tokens) > 8)
    assert [len(run.events) for run in runs[:4]] == counts, "events after a cancellation"
    engine.cancel([runs[4].id])
    wait_until(lambda: engine.n_running == 0)


def test_a_full_queue_refuses_all_or_nothing(engine: Engine) -> None:
    endless = GenerationRequest((1, 2, 3), GREEDY, ignore_eos=True)
    runs = submit(engine, [endless] * 4)
    wait_until(lambda: engine.n_running == 3)
    with pytest.raises(QueueFullError):
        submit(engine, [endless] * 2)
    assert engine.n_waiting == 1
    runs += submit(engine, [endless])
    engine.cancel(run.id for run in runs)


def test_a_cache_too_small_for_all_delays_but_fails_nobody(model: Model) -> None:
    config = EngineConfig(n_slots=4, n_ctx=256, n_threads=THREADS, draft_nodes=0)
    engine = Engine(model, config=config)
    requests = [
        GenerationRequest((1, 2, 3 + i), GREEDY, max_tokens=100, ignore_eos=True) for i in range(5)
    ]
    crowded = generate(engine, requests)
    assert [run.finished.usage.completion_tokens for run in crowded] == [100] * 5
    assert all(run.finished.reason is FinishReason.LENGTH for run in crowded)
    engine.close()


def test_generation_ends_at_the_context_limit(model: Model) -> None:
    config = EngineConfig(n_slots=1, n_ctx=512, n_threads=THREADS, draft_nodes=0)
    engine = Engine(model, config=config)
    (run,) = generate(engine, [GenerationRequest((1, 2, 3), GREEDY, ignore_eos=True)])
    usage = run.finished.usage
    assert usage.prompt_tokens + usage.completion_tokens == engine.max_context
    assert run.finished.reason is FinishReason.LENGTH
    engine.close()


def test_requests_that_cannot_run_are_refused(engine: Engine, model: Model) -> None:
    cases = [
        ((), "empty", InvalidRequestError),
        ((1,) * 5000, "context is limited", ContextLengthError),
        ((model.n_vocab,), "token ids", InvalidRequestError),
        ((-1,), "token ids", InvalidRequestError),
    ]
    for prompt, message, kind in cases:
        with pytest.raises(InvalidRequestError, match=message) as caught:
            submit(engine, [GenerationRequest(prompt)])
        assert type(caught.value) is kind
        assert caught.value.field == "prompt"


@pytest.mark.parametrize("scored", [None, 0])
def test_a_request_for_nothing_is_answered(engine: Engine, scored: int | None) -> None:
    request = GenerationRequest((1,), max_tokens=0, prompt_logprobs=scored)
    (run,) = generate(engine, [request])
    assert run.finished.reason is FinishReason.LENGTH
    assert run.finished.usage.completion_tokens == 0
    assert [type(event) for event in run.events] == [PromptScored, Finished][scored is None :]


@pytest.mark.parametrize("count", [5, 6])
def test_room_can_be_asked_for_before_requests_are_built(engine: Engine, count: int) -> None:
    """Three slots, and two may wait."""
    if count == 5:
        engine.check_room(count)
    else:
        with pytest.raises(
            InvalidRequestError, match="6 sequences were asked for at once; at most 5"
        ):
            engine.check_room(count)


def test_an_unknown_adapter_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="no adapter 0; this model has 0"):
        submit(engine, [GenerationRequest((1, 2), adapters=(Applied(0, 1.0),))])


def test_closing_the_engine_ends_everything_with_an_error(model: Model) -> None:
    config = EngineConfig(n_slots=1, n_ctx=512, n_threads=THREADS, draft_nodes=0)
    engine = Engine(model, config=config)
    endless = GenerationRequest((1, 2, 3), GREEDY, ignore_eos=True)
    runs = submit(engine, [endless, endless])
    wait_until(lambda: len(runs[0].tokens) > 2)
    engine.close()
    for run in runs:
        last = run.events[-1]
        assert isinstance(last, Failed)
        assert last.kind is FailureKind.STOPPED
    with pytest.raises(EngineStoppedError):
        submit(engine, [endless])


@pytest.mark.parametrize(
    "wrong", [{"n_slots": 0}, {"n_slots": 300}, {"n_ctx": 64}, {"n_batch": 8, "n_slots": 8}]
)
def test_contradictory_sizes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ModelLoadError):
        EngineConfig(**wrong)  # type: ignore[arg-type]


def test_closing_twice_tells_nobody_twice(engine: Engine) -> None:
    runs = submit(engine, [GenerationRequest((1, 2, i), GREEDY, 200) for i in range(5)])
    engine.close()
    engine.close()
    for run in runs:
        assert sum(isinstance(event, Failed) for event in run.events) == 1
