"""Every architecture that is served answers as plain llama.cpp does, one request at a time.

Each property of the engine has its random requests, 200 for each architecture in all. `few` of them
run in `make check`. `short` stands for sliding windows that keep no more cells than they need.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medusa.engine.client import Generated
from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.prompt_cache import cache, shelf
from medusa.engine.report import StepReport
from medusa.engine.requests import GenerationRequest
from medusa.llama.base_weights import BaseWeights, fingerprint
from medusa.llama.model import Model
from medusa.speculation.cost import FixedCost
from medusa.speculation.drafter import Drafter
from medusa.speculation.heads.guessing import Heads
from medusa.speculation.heads.header import HeadsHeader, Variant
from medusa.speculation.heads.loading import load_heads
from medusa.speculation.heads.weights import HeadWeights, layout, write_heads
from medusa.speculation.sources.heads import HeadsSource
from medusa.speculation.sources.source import DraftSource
from tests.architectures.conftest import Subject, Subjects
from tests.architectures.models import SERVED_MODELS, WINDOWED_MODELS
from tests.architectures.oracle import Oracle
from tests.architectures.requests import random_requests
from tests.conftest import Run, generate, submit

pytestmark = [
    pytest.mark.parametrize("name", [*SERVED_MODELS, *(f"{w}-short" for w in WINDOWED_MODELS)]),
    pytest.mark.parametrize(
        "share", [pytest.param(0.1, id="few"), pytest.param(1.0, id="all", marks=pytest.mark.slow)]
    ),
]
DRAFT_NODES = 8


@contextmanager
def running(subject: Subject, heads: Heads | None = None, **options: Any) -> Iterator[Engine]:
    observer = options.pop("observer", None)
    defaults: dict[str, Any] = {"n_slots": 6, "n_ctx": 1024, "n_threads": 1, "draft_nodes": 0}
    defaults |= subject.engine_options
    config = EngineConfig(**(defaults | options), cost=FixedCost())
    engine = Engine(subject.model, heads, config, observer)
    yield engine
    engine.close()


def compare(subject: Subject, requests: Sequence[GenerationRequest], runs: Sequence[Run]) -> None:
    expected = [subject.evaluate(request) for request in requests]
    subject.compare(expected, [run.generated for run in runs])


def test_alone(subject_of: Subjects, name: str, share: float) -> None:
    subject = subject_of(name)
    requests = random_requests(random.Random(1), round(20 * share))
    with running(subject, n_slots=1) as engine:
        runs = [generate(engine, [request])[0] for request in requests]
    compare(subject, requests, runs)


def test_six_at_once(subject_of: Subjects, name: str, share: float) -> None:
    subject = subject_of(name)
    requests = random_requests(random.Random(2), round(50 * share))
    with running(subject) as engine:
        runs = generate(engine, requests)
    compare(subject, requests, runs)


def test_drafts(
    subject_of: Subjects, name: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads that know nothing, and a source that is often right."""
    subject = subject_of(name)
    can = subject.model.capabilities
    if not (can.can_branch or can.can_roll_back):
        pytest.skip("no drafts")
    dice = random.Random(3)
    count = max(10, round(40 * share))
    expected = [subject.evaluate(request) for request in random_requests(dice, count)]
    sources: list[DraftSource] = [Oracle(expected, dice)]
    heads = None
    if can.gives_hidden_states:
        heads = random_heads(subject.model, tmp_path / "heads.gguf")
        sources.insert(0, HeadsSource(heads))
    monkeypatch.setattr(Drafter, "create", lambda *_: Drafter(sources, FixedCost(), DRAFT_NODES))
    with running(subject, heads, draft_nodes=DRAFT_NODES) as engine:
        runs = generate(engine, [each.request for each in expected])
    subject.compare(expected, [run.generated for run in runs])
    usages = [run.finished.usage for run in runs]
    assert any(usage.accepted_drafts for usage in usages)
    assert sum(usage.rejected_drafts for usage in usages) > len(usages) / 8


def test_prefix_reuse(subject_of: Subjects, name: str, share: float) -> None:
    """Conversations that go on, are cut, or begin anew, two at a time."""
    subject = subject_of(name)
    turns = subject.conversations(random.Random(4), round(40 * share))
    answers: list[Generated] = []
    with running(subject, n_slots=2, n_ctx=512) as engine:
        for i in range(0, len(turns), 2):
            runs = generate(engine, [turn.request for turn in turns[i : i + 2]])
            answers += [run.generated for run in runs]
    subject.compare(turns, answers)
    assert sum(answer.usage.cached_tokens for answer in answers if answer.usage) > 0


def test_saved_prompts(
    subject_of: Subjects, name: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conversations that take a slot from each other come back to what was saved of them."""
    subject, dice = subject_of(name), random.Random(7)
    monkeypatch.setattr(shelf, "WORTH_KEEPING", 1)
    monkeypatch.setattr(cache, "WORTH_KEEPING", 1)
    turns = subject.conversations(dice, max(16, round(40 * share)))
    drafter = Drafter([Oracle(turns, dice)], FixedCost(), DRAFT_NODES)
    monkeypatch.setattr(Drafter, "create", lambda *_: drafter)
    steps: list[StepReport] = []
    runs: list[Run] = []
    with running(
        subject, n_slots=2, n_ctx=512, draft_nodes=DRAFT_NODES, observer=steps.append
    ) as engine:
        for i in range(0, len(turns), 2):
            runs += generate(engine, [turn.request for turn in turns[i : i + 2]])
    subject.compare(turns, [run.generated for run in runs])
    assert sum(step.restored_prompts for step in steps) > 0
    saved = sum(step.restored_tokens for step in steps)
    assert 0 < saved <= sum(run.finished.usage.cached_tokens for run in runs)


def test_cancellations(subject_of: Subjects, name: str, share: float) -> None:
    subject = subject_of(name)
    dice = random.Random(5)
    requests = random_requests(dice, round(50 * share))
    runs: list[Run] = []
    cancelled: set[int] = set()
    with running(subject, n_slots=4) as engine:
        while len(runs) < len(requests):
            runs += submit(engine, requests[len(runs) : len(runs) + dice.randint(1, 6)])
            victim = dice.randrange(len(runs))
            if not runs[victim].ended.wait(dice.choice([0.0, 0.002, 0.01])):
                cancelled.add(victim)
                engine.cancel([runs[victim].id])
        kept = [i for i in range(len(runs)) if i not in cancelled]
        assert all(runs[i].ended.wait(600) for i in kept)
    compare(subject, [requests[i] for i in kept], [runs[i] for i in kept])


def test_stepping_back(subject_of: Subjects, name: str, share: float) -> None:
    """The cache holds two or three of them."""
    subject, dice = subject_of(name), random.Random(6)
    requests = [
        replace(request, max_tokens=dice.randint(20, 80))
        for request in random_requests(dice, max(8, round(30 * share)), longest=40)
    ]
    steps: list[StepReport] = []
    with running(subject, n_slots=4, n_ctx=192, observer=steps.append) as engine:
        runs = generate(engine, requests)
    compare(subject, requests, runs)
    usages = [run.finished.usage for run in runs]
    needed = sum(u.prompt_tokens - u.cached_tokens + u.completion_tokens - 1 for u in usages)
    computed = sum(step.prefilled_tokens + step.batch_tokens for step in steps)
    assert computed > needed, "nobody stepped back"


def random_heads(model: Model, path: Path) -> Heads:
    """Heads of the right shape that know nothing, by way of a file."""
    rng = np.random.default_rng(0)
    header = HeadsHeader(
        variant=Variant.SHARED,
        n_heads=3,
        n_layers=1,
        n_embd=model.n_embd,
        n_vocab=model.n_vocab,
        base_name="random",
        base_fingerprint=fingerprint(model, BaseWeights(model.path)),
    )
    values = {spec.name: rng.standard_normal(spec.shape, np.float32) / 8 for spec in layout(header)}
    write_heads(path, HeadWeights.of(header, values))
    return load_heads(path, model)
