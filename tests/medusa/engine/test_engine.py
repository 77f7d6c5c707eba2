import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.events import Failed, FailureKind, Finished, FinishReason, PromptScored
from medusa.engine.probe import timed_decodes
from medusa.engine.report import StepReport
from medusa.engine.requests import GenerationRequest
from medusa.errors import (
    ContextLengthError,
    EngineStoppedError,
    InvalidRequestError,
    ModelLoadError,
    QueueFullError,
)
from medusa.llama import runtime
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.model import Model
from medusa.llama.params import ContextParams
from medusa.sampling.params import SamplingParams
from medusa.sampling.sampler import Sampler
from medusa.speculation.cost import FixedCost, MeasuredCost
from medusa.speculation.heads.loading import load_heads
from medusa.text.chat_template import ChatTemplate
from tests.conftest import THREADS, generate, submit

GREEDY = SamplingParams(temperature=0)


class Dear:
    """No guess is worth its time."""

    change_seconds = 0.0

    def seconds(self, n_tokens: int) -> float:
        return float(n_tokens**2)


@pytest.fixture
def steps() -> list[StepReport]:
    return []


@pytest.fixture
def engine(model: Model, steps: list[StepReport]) -> Iterator[Engine]:
    config = EngineConfig(n_slots=3, n_ctx=2048, n_threads=THREADS, max_queue=2, draft_nodes=0)
    engine = Engine(model, config=config, observer=steps.append)
    yield engine
    engine.close()


def chat(model: Model, template: ChatTemplate, *contents: str) -> tuple[int, ...]:
    roles = ["user", "assistant"]
    messages = [
        {"role": roles[index % 2], "content": content} for index, content in enumerate(contents)
    ]
    return tuple(model.tokenize(template.render(messages), parse_special=True))


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.005)


def test_a_follow_up_turn_prefills_only_what_is_new(
    engine: Engine, model: Model, template: ChatTemplate, steps: list[StepReport]
) -> None:
    first = chat(model, template, "Name three colours.")
    (run,) = generate(engine, [GenerationRequest(first, GREEDY, max_tokens=24)])
    steps.clear()
    second = chat(model, template, "Name three colours.", run.text, "And three animals.")
    assert second[: len(first)] == first
    (turn,) = generate(engine, [GenerationRequest(second, GREEDY, max_tokens=4)])
    reusable = len(first) + len(run.tokens) - 1
    assert turn.finished.usage.cached_tokens >= reusable - 2
    prefilled = sum(step.prefilled_tokens for step in steps)
    assert prefilled == len(second) - 1 - turn.finished.usage.cached_tokens


def test_two_conversations_share_a_prefix_across_slots(
    engine: Engine, model: Model, steps: list[StepReport]
) -> None:
    shared = tuple(model.tokenize("The quick brown fox jumps over the lazy dog. " * 20))
    requests = [
        GenerationRequest((*shared, *model.tokenize(end)), GREEDY, max_tokens=8)
        for end in ("One", "Two", "Three")
    ]
    runs = generate(engine, requests)
    prefilled = sum(step.prefilled_tokens for step in steps)
    assert prefilled < len(shared) + 10
    alone = [generate(engine, [request])[0] for request in requests]
    assert [run.finished.usage.cached_tokens for run in alone] >= [len(shared)] * 3
    assert all(run.finished.usage.completion_tokens == 8 for run in runs)


def test_a_long_prompt_does_not_stall_running_requests(model: Model) -> None:
    steps: list[StepReport] = []
    config = EngineConfig(n_slots=2, n_ctx=4096, n_threads=THREADS, draft_nodes=0, max_stall=0.02)
    engine = Engine(model, config=config, observer=steps.append)
    (running,) = submit(engine, [GenerationRequest((1, 2, 3), GREEDY, 400, ignore_eos=True)])
    wait_until(lambda: len(running.tokens) > 5)
    steps.clear()
    long_prompt = tuple(model.tokenize("word " * 900))
    generate(engine, [GenerationRequest(long_prompt, GREEDY, max_tokens=1)])
    prefills = [step for step in steps if step.prefilled_tokens]
    assert sum(step.prefilled_tokens for step in prefills) == len(long_prompt) - 1
    assert len(prefills) > 5
    assert all(step.n_decoding >= 1 for step in prefills), "the running request had to wait"
    engine.close()


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


def test_guesses_never_outgrow_what_is_left_to_generate(model: Model, heads_path: Path) -> None:
    steps: list[StepReport] = []
    config = EngineConfig(n_slots=2, n_ctx=512, n_threads=THREADS, draft_nodes=12, cost=FixedCost())
    engine = Engine(model, load_heads(heads_path, model), config, steps.append)
    for max_tokens in (1, 2, 3, 30):
        request = GenerationRequest((1, 2, 3), GREEDY, max_tokens, ignore_eos=True)
        runs = generate(engine, [request] * 2)
        assert [len(run.tokens) for run in runs] == [max_tokens] * 2
    (endless,) = generate(engine, [GenerationRequest((1, 2, 3), GREEDY, ignore_eos=True)])
    usage = endless.finished.usage
    assert usage.prompt_tokens + usage.completion_tokens == engine.max_context
    assert usage.accepted_drafts > 0
    assert max(step.drafts_proposed for step in steps) == 12
    engine.close()


def test_lookup_guesses_what_the_prompt_repeats(model: Model) -> None:
    prompt = tuple(model.tokenize("Ring a ring o roses, " * 4 + "ring a ring o"))
    request = GenerationRequest(prompt, GREEDY, max_tokens=40, ignore_eos=True)
    usages = {}
    for lookup in (False, True):
        config = EngineConfig(
            n_slots=1, n_ctx=512, n_threads=THREADS, draft_nodes=8, lookup=lookup, cost=FixedCost()
        )
        engine = Engine(model, config=config)
        (run,) = generate(engine, [request])
        engine.close()
        usages[lookup] = run.finished.usage
    assert usages[True].steps < 20
    assert usages[True].accepted_drafts == 40 - usages[True].steps
    assert (usages[False].steps, usages[False].rejected_drafts) == (40, 0)


@pytest.mark.parametrize("options", [{"draft_nodes": 0}, {"cost": Dear()}], ids=["0", "too dear"])
def test_nothing_is_guessed_where_it_does_not_pay(
    model: Model, heads_path: Path, options: dict[str, object]
) -> None:
    config = EngineConfig(n_slots=2, n_ctx=512, n_threads=THREADS, **options)  # type: ignore[arg-type]
    engine = Engine(model, load_heads(heads_path, model), config)
    (run,) = generate(engine, [GenerationRequest((1, 2, 3), GREEDY, 12, ignore_eos=True)])
    engine.close()
    usage = run.finished.usage
    assert (usage.steps, usage.accepted_drafts, usage.rejected_drafts) == (12, 0, 0)


def test_measuring_the_cost_leaves_no_trace(model: Model) -> None:
    context = Context(model, ContextParams(n_ctx=256, n_seq_max=1, n_batch=64, n_threads=THREADS))
    batch = Batch(64, 1)
    prompt = model.tokenize("The capital of France is")

    def logits() -> np.ndarray:
        batch.clear()
        batch.add_run(prompt, 0, 0, output=True)
        decoded = context.decode(batch).logits.copy()
        context.clear()
        return decoded

    before = logits()
    with timed_decodes(context, batch, n_prompt=64) as measure:
        cost = MeasuredCost.measure(measure, 20)
    np.testing.assert_array_equal(logits(), before)
    context.close()
    assert 0 < cost.seconds(1) <= cost.seconds(20)


@pytest.mark.parametrize(
    ("options", "leaves"),
    [
        ({"n_slots": 1}, 16),
        ({"n_slots": 8, "draft_nodes": 4}, 4),
        ({"n_slots": 64}, 4),
        ({"n_slots": 256, "n_ctx": 4096}, 1),
        ({"draft_nodes": 0}, 1),
    ],
)
def test_a_trees_branches_are_limited_by_the_sequences_there_are(
    options: dict[str, int], leaves: int
) -> None:
    assert EngineConfig(**options).max_leaves == leaves  # type: ignore[arg-type]


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


def test_logprobs_match_a_plain_evaluation(engine: Engine, model: Model) -> None:
    """Against a context of its own that decodes the same tokens in one go."""
    prompt = tuple(model.tokenize("The capital of France is Paris. The capital of Italy is"))
    request = GenerationRequest(prompt, GREEDY, max_tokens=8, logprobs=3, prompt_logprobs=2)
    (run,) = generate(engine, [request])
    scored = run.events[0]
    assert isinstance(scored, PromptScored)
    entries = [*scored.logprobs, *(entry for delta in run.deltas for entry in delta.logprobs)]
    tokens = [*prompt, *run.tokens]
    assert [entry.token for entry in entries if entry] == tokens[1:]
    assert entries[0] is None

    context = Context(model, ContextParams(n_ctx=256, n_seq_max=1, n_batch=64, n_threads=THREADS))
    batch = Batch(64, 1)
    batch.add_run(tokens, 0, 0, output=True)
    logits = context.decode(batch).logits.astype(np.float64)
    context.close()
    logprobs = logits - logits.max(1, keepdims=True)
    logprobs -= np.log(np.exp(logprobs).sum(1, keepdims=True))
    for position, entry in enumerate(entries[1:]):
        assert entry is not None
        expected = logprobs[position]
        assert entry.logprob == pytest.approx(expected[entry.token], abs=0.2)
        assert len(entry.top) == (2 if position < len(prompt) - 1 else 3)
        for token, logprob in entry.top:
            assert logprob == pytest.approx(expected[token], abs=0.2)
        values = [logprob for _, logprob in entry.top]
        assert values == sorted(values, reverse=True)


def test_only_the_prompt_is_scored_when_nothing_is_to_be_generated(
    engine: Engine, model: Model
) -> None:
    prompt = tuple(model.tokenize("one two three four five " * 30))
    (run,) = generate(engine, [GenerationRequest(prompt, max_tokens=0, prompt_logprobs=0)])
    scored, finished = run.events
    assert isinstance(scored, PromptScored)
    assert len(scored.logprobs) == len(prompt)
    assert finished == run.finished
    assert run.finished.usage.completion_tokens == 0


@pytest.mark.parametrize("scored", [None, 0])
def test_a_request_for_nothing_is_answered(engine: Engine, scored: int | None) -> None:
    request = GenerationRequest((1,), max_tokens=0, prompt_logprobs=scored)
    (run,) = generate(engine, [request])
    assert run.finished.reason is FinishReason.LENGTH
    assert run.finished.usage.completion_tokens == 0
    assert [type(event) for event in run.events] == [PromptScored, Finished][scored is None :]


def test_scored_prompts_do_not_hold_up_who_is_decoding(model: Model) -> None:
    """Seven prompts of 500 tokens: all of them together keep to a step's share of prompts."""
    steps: list[StepReport] = []
    config = EngineConfig(n_slots=8, n_ctx=8192, n_threads=THREADS, draft_nodes=0, max_stall=0.05)
    engine = Engine(model, config=config, observer=steps.append)
    (running,) = submit(engine, [GenerationRequest((1, 2, 3), GREEDY, 3000, ignore_eos=True)])
    wait_until(lambda: len(running.tokens) > 5)
    steps.clear()
    text = model.tokenize("word " * 500)
    prompts = [GenerationRequest((i, *text), max_tokens=1, prompt_logprobs=0) for i in range(7)]
    runs = generate(engine, prompts)
    engine.close()
    assert all(len(run.events[0].logprobs) == len(text) + 1 for run in runs)  # type: ignore[union-attr]
    during = [step for step in steps if step.prefilled_tokens]
    assert max(step.prefilled_tokens for step in during) <= 64
    assert all(step.n_decoding >= 1 for step in during), "the running request had to wait"


class Even:
    """Only even tokens, and 42 after each that 10 divides."""

    def __init__(self) -> None:
        self._last = 1

    def mask(self, row: np.ndarray) -> None:
        row[1::2] = -np.inf
        if self.forced():
            row[:42] = row[43:] = -np.inf

    def accept(self, token: int) -> None:
        self._last = token

    def forced(self) -> list[int]:
        return [42] if self._last % 10 == 0 else []


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_constraint_holds_and_guesses_do_not_change_what_it_allows(
    model: Model, heads_path: Path, temperature: float
) -> None:
    prompt = tuple(model.tokenize("Ring a ring o roses, " * 3))
    sampling = SamplingParams(temperature=temperature, seed=5)
    request = GenerationRequest(prompt, sampling, 60, ignore_eos=True, constraint=Even)
    written = []
    for nodes, heads in ((0, None), (8, load_heads(heads_path, model))):
        config = EngineConfig(
            n_slots=3, n_ctx=1024, n_threads=THREADS, draft_nodes=nodes, cost=FixedCost()
        )
        engine = Engine(model, heads, config)
        written += [run.tokens for run in generate(engine, [request] * 3)]
        engine.close()
    assert all(token % 2 == 0 for token in written[0])
    assert all(b == 42 for a, b in pairwise(written[0]) if a % 10 == 0)
    if runtime.load().kernels.active:
        assert all(tokens == written[0] for tokens in written)


def test_a_constraint_that_breaks_ends_its_own_request_alone(engine: Engine) -> None:
    class Broken(Even):
        def mask(self, row: np.ndarray) -> None:
            raise RuntimeError("the grammar broke")

    good = GenerationRequest((1, 2, 3), GREEDY, max_tokens=10, ignore_eos=True)
    bad = GenerationRequest((1, 2, 3), GREEDY, max_tokens=10, constraint=Broken)
    runs = generate(engine, [good, bad])
    assert runs[0].finished.usage.completion_tokens == 10
    assert isinstance(runs[1].events[-1], Failed)


@pytest.mark.parametrize("count", [5, 6])
def test_room_can_be_asked_for_before_requests_are_built(engine: Engine, count: int) -> None:
    """Three slots, and two may wait."""
    if count == 5:
        engine.check_room(count)
    else:
        with pytest.raises(InvalidRequestError, match="6 sequences at once, of at most 5"):
            engine.check_room(count)


def test_an_unknown_adapter_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="no adapter 'poet'"):
        submit(engine, [GenerationRequest((1, 2), adapter="poet")])


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
