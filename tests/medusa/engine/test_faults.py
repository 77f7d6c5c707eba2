"""A fault costs the request that it belongs to, if any; others have the answers without it."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from medusa.engine.client import Generated
from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.events import Failed, FailureKind
from medusa.engine.prefix_cache import Placement
from medusa.engine.prefixes import PrefixKey
from medusa.engine.report import StepReport
from medusa.engine.requests import GenerationRequest
from medusa.llama import runtime
from medusa.llama.model import Model
from medusa.sampling.params import SamplingParams
from medusa.speculation.cost import FixedCost
from tests.app.exact_model import write_exact_model
from tests.conftest import Run, generate
from tests.faults import Fault, inject, raising, status

GUILTY = 258  # the end token, which no other request decodes
REQUESTS = [
    GenerationRequest((1, 2, 3, 1, 2), SamplingParams(temperature=0), 30, logprobs=2),
    GenerationRequest((4, 5, 6) * 20, SamplingParams(temperature=0.8, seed=5), 30, ignore_eos=True),
    GenerationRequest((7, 8), SamplingParams(temperature=1.0, seed=6), 30, prompt_logprobs=1),
    GenerationRequest((9,) * 40, SamplingParams(temperature=0), 30, ignore_eos=True),
]
BAD = GenerationRequest((1, 2, GUILTY, 3), SamplingParams(temperature=0), 30, ignore_eos=True)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    if not runtime.load().kernels.active:
        pytest.skip(f"results depend on the batch: {runtime.load().kernels.reason}")
    path: Path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_exact_model(path)
    model = Model(path)
    yield model
    model.close()


class Panic(BaseException):
    """As a library in Rust raises it: no Exception."""


class Panicking:
    """A constraint of such a library."""

    def mask(self, row: np.ndarray) -> None:
        raise Panic

    def accept(self, token: int) -> None: ...

    def forced(self) -> Sequence[int]:
        return ()

    def allows(self, token: int) -> bool:
        return True

    def fork(self) -> Self:
        return self


@pytest.fixture
def steps() -> list[StepReport]:
    return []


@pytest.fixture
def engine(tiny: Model, steps: list[StepReport]) -> Iterator[Engine]:
    config = EngineConfig(n_slots=3, n_ctx=512, n_threads=1, draft_nodes=6, cost=FixedCost())
    engine = Engine(tiny, None, config, steps.append)
    yield engine
    engine.close()


def gathered(run: Run) -> Generated:
    generated = Generated()
    for event in run.events:
        generated.add(event)
    return generated


def answers(runs: list[Run]) -> list[tuple[object, ...]]:
    made = map(gathered, runs)
    return [(g.tokens, g.text, g.reason, g.logprobs, g.prompt_logprobs) for g in made]


@pytest.fixture(scope="module")
def expected(tiny: Model) -> list[tuple[object, ...]]:
    """Without a fault, each alone and without guesses."""
    config = EngineConfig(n_slots=1, n_ctx=512, n_threads=1, draft_nodes=0)
    engine = Engine(tiny, config=config)
    runs = [generate(engine, [request])[0] for request in REQUESTS]
    engine.close()
    return answers(runs)


def idle(engine: Engine) -> None:
    while engine.n_running or engine.n_waiting:
        time.sleep(0.005)
    assert all(slot.is_idle for slot in engine._scheduler.slots)


FAULTS: dict[str, Callable[[], int]] = {
    "no cells": status(1),
    "aborted": status(2),
    "invalid batch": status(-1),
    "allocation": status(-2),
    "compute": status(-3),
    "exception": status(-4),
    "out of memory": raising(MemoryError("no memory")),
    "anything": raising(RuntimeError("anything")),
}


@pytest.mark.parametrize("first", [0, 1, 5, 20])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_passes_changes_no_answer(
    engine: Engine,
    steps: list[StepReport],
    expected: list[tuple[object, ...]],
    name: str,
    first: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault = Fault(FAULTS[name], first)
    inject(engine, fault, monkeypatch)
    assert answers(generate(engine, REQUESTS)) == expected
    idle(engine)
    assert fault.happened == 1
    assert sum(step.failures for step in steps) == 1
    assert answers(generate(engine, REQUESTS)) == expected, "afterwards"


@pytest.mark.parametrize("name", FAULTS)
def test_who_makes_every_step_fail_ends_alone(
    engine: Engine,
    steps: list[StepReport],
    expected: list[tuple[object, ...]],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inject(engine, Fault(FAULTS[name], times=10**6, guilty=GUILTY), monkeypatch)
    for place in range(3):
        together = [*REQUESTS[:place], BAD, *REQUESTS[place:]]
        runs = generate(engine, together)
        bad = runs.pop(place)
        (event,) = bad.events
        assert isinstance(event, Failed)
        assert event.kind is FailureKind.INTERNAL
        assert answers(runs) == expected
        idle(engine)
    assert sum(step.failures for step in steps) >= 6


def test_an_engine_that_always_fails_ends_every_request_and_lives(
    engine: Engine, expected: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        inject(engine, Fault(status(-3), times=10**6), patch)
        runs = generate(engine, REQUESTS)
        assert all(isinstance(run.events[-1], Failed) for run in runs)
    idle(engine)
    assert answers(generate(engine, REQUESTS)) == expected


def test_faults_leak_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def held() -> tuple[int, int, int]:
        free = engine._scheduler.free_cells + sum(
            len(slot.tokens) for slot in engine._scheduler.slots
        )
        return threading.active_count(), len(os.listdir("/proc/self/fd")), free

    generate(engine, REQUESTS)
    idle(engine)
    before = held()
    for number in (1, 2, -1, -3):
        with monkeypatch.context() as patch:
            inject(engine, Fault(status(number), 3, times=3), patch)
            generate(engine, [*REQUESTS, *REQUESTS])
        idle(engine)
    assert held()[:2] == before[:2]
    engine._start_afresh(RuntimeError("from outside"))
    assert engine._scheduler.free_cells == engine.config.n_ctx


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_jumps_changes_no_answer(
    engine: Engine,
    expected: list[tuple[object, ...]],
    jump: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, calls = time.perf_counter, 0

    def jumping() -> float:
        nonlocal calls
        calls += 1
        return real() + jump * (calls // 50 % 2)

    monkeypatch.setattr(time, "perf_counter", jumping)
    assert answers(generate(engine, REQUESTS)) == expected


def test_a_prompt_that_fails_in_a_later_piece_fails_twice(
    tiny: Model, steps: list[StepReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EngineConfig(n_slots=2, n_ctx=512, n_batch=32, n_threads=1, draft_nodes=0)
    engine = Engine(tiny, config=config, observer=steps.append)
    fault = Fault(status(-3), times=10, guilty=GUILTY)
    inject(engine, fault, monkeypatch)
    (run,) = generate(engine, [GenerationRequest((1,) * 100 + (GUILTY, 3), max_tokens=1)])
    engine.close()
    assert isinstance(run.events[-1], Failed)
    assert fault.happened == sum(step.failures for step in steps) == 2


def test_a_panic_ends_its_own_request_alone(engine: Engine) -> None:
    expected = generate(engine, REQUESTS)
    runs = generate(engine, [*REQUESTS[:2], replace(BAD, constraint=Panicking), *REQUESTS[2:]])
    assert isinstance(runs.pop(2).events[-1], Failed)
    assert [run.tokens for run in runs] == [run.tokens for run in expected]


def test_who_cannot_be_admitted_ends_alone(
    engine: Engine, expected: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = engine._scheduler._cache
    place = cache.place

    def failing(key: PrefixKey, n_cells: int, *, in_ram: bool) -> Placement | None:
        if GUILTY in key.tokens:
            raise RuntimeError("anything")
        return place(key, n_cells, in_ram=in_ram)

    monkeypatch.setattr(cache, "place", failing)
    bad = replace(BAD, prompt=(GUILTY, *BAD.prompt))
    runs = generate(engine, [*REQUESTS[:2], bad, *REQUESTS[2:]])
    assert isinstance(runs.pop(2).events[-1], Failed)
    assert answers(runs) == expected
    idle(engine)
