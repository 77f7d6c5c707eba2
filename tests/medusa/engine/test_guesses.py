"""Guesses: how many, and when."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.probe import timed_decodes
from medusa.engine.report import StepReport
from medusa.engine.requests import GenerationRequest
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.model import Model
from medusa.llama.params import ContextParams
from medusa.speculation.cost import FixedCost, MeasuredCost
from medusa.speculation.expectation import Expectation
from medusa.speculation.heads.loading import load_heads
from tests.conftest import THREADS, generate
from tests.medusa.engine.conftest import GREEDY


class Dear:
    """No guess is worth its time."""

    change_seconds = 0.0

    def seconds(self, n_tokens: int) -> float:
        return float(n_tokens**2)


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


def test_while_guessing_rests_only_what_a_request_brings_is_guessed(
    model: Model, heads_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Expectation, "guesses", lambda _self, _count: False)
    steps: list[StepReport] = []
    cost = MeasuredCost([1, 2], [1.0, 1.0])
    config = EngineConfig(n_slots=2, n_ctx=1024, n_threads=THREADS, cost=cost)
    engine = Engine(model, load_heads(heads_path, model), config, steps.append)
    request = GenerationRequest((1, 2, 3), GREEDY, 40, ignore_eos=True)
    alone, beside = generate(engine, [request] * 2)
    assert alone.finished.usage.steps == 40
    assert not any(step.drafts_proposed or step.heads_seconds for step in steps)
    foretold = replace(request, prediction=tuple(alone.tokens))
    first, second = generate(engine, [foretold, request])
    engine.close()
    assert first.finished.usage.accepted_drafts > 20
    assert second.finished.usage.steps == 40
    assert alone.tokens == beside.tokens == first.tokens == second.tokens


def test_who_asks_is_told_who_guessed_each_token(model: Model, heads_path: Path) -> None:
    steps: list[StepReport] = []
    config = EngineConfig(n_slots=2, n_ctx=1024, n_threads=THREADS, cost=FixedCost())
    engine = Engine(model, load_heads(heads_path, model), config, steps.append)
    prompt = tuple(model.tokenize("Ring a ring o roses, " * 4 + "ring a ring o"))
    asked = GenerationRequest(prompt, GREEDY, 40, ignore_eos=True, return_drafts=True)
    told, untold = generate(engine, [asked, replace(asked, return_drafts=False)])
    engine.close()
    for delta in told.deltas:
        assert len(delta.drafts) == len(delta.tokens)
        assert delta.drafts[-1] is None, "the last token of a step is the model's own"
    sources = Counter(source for source in told.generated.drafts if source is not None)
    assert sources.total() == told.finished.usage.accepted_drafts > 0
    assert set(sources) <= {"heads", "lookup"}
    assert sources["lookup"] > 0
    assert not untold.generated.drafts
    accepted = sum((Counter(step.accepted) for step in steps), Counter())
    proposed = sum((Counter(step.proposed) for step in steps), Counter())
    usages = [run.finished.usage for run in (told, untold)]
    assert accepted.total() == sum(usage.accepted_drafts for usage in usages)
    assert proposed.total() - accepted.total() == sum(usage.rejected_drafts for usage in usages)
    assert accepted <= proposed


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
        batch.add_run(prompt, 0, [0], output=True)
        decoded = context.decode(batch).logits.copy()
        context.clear()
        return decoded

    before = logits()
    with timed_decodes(context, batch, n_prompt=64, hidden=True, rewinds=True) as measure:
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
