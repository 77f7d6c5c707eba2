"""Requests whose owners cannot keep up; on a model of random weights."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.events import Event
from medusa.engine.requests import GenerationRequest
from medusa.llama.model import Model
from medusa.sampling.params import SamplingParams
from tests.app.tiny_model import write_tiny_model
from tests.conftest import Run, generate
from tests.medusa.engine.conftest import wait_until

PLAIN = EngineConfig(n_slots=1, n_ctx=512, n_threads=1, draft_nodes=0)
LONG = GenerationRequest(
    tuple(range(40, 80)), SamplingParams(seed=1), max_tokens=200, ignore_eos=True, logprobs=2
)
SHORT = GenerationRequest((50, 51), max_tokens=3, ignore_eos=True)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path: Path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_tiny_model(path, "gpt-2")
    model = Model(path)
    yield model
    model.close()


@pytest.fixture
def single(tiny: Model) -> Iterator[Engine]:
    """One slot."""
    engine = Engine(tiny, config=PLAIN)
    yield engine
    engine.close()


def submit_slow(engine: Engine) -> Run:
    """A request that is paused at its fifth event; returns once it has no slot any more."""
    request = replace(LONG, id=uuid4().hex)
    run = Run(request.id)

    def sink(event: Event) -> None:  # in the engine's thread: no step comes in between
        run.add(event)
        if len(run.events) == 5:
            engine.set_paused([run.id], True)

    engine.submit([request], sink)
    wait_until(lambda: len(run.events) == 5 and engine.n_running == 0)
    return run


def test_others_run_meanwhile_and_nothing_is_lost(single: Engine) -> None:
    (alone,) = generate(single, [LONG])
    slow = submit_slow(single)
    for _ in range(3):
        (other,) = generate(single, [SHORT])
        assert len(other.tokens) == 3
    assert len(slow.events) == 5
    single.set_paused([slow.id], False)
    assert slow.ended.wait(600)
    assert slow.tokens == alone.tokens
    assert slow.text == alone.text
    assert len(slow.tokens) == LONG.max_tokens


def test_a_paused_request_can_be_cancelled(single: Engine) -> None:
    slow = submit_slow(single)
    assert single.n_waiting == 1
    single.cancel([slow.id])
    wait_until(lambda: single.n_waiting == 0)


def test_an_engine_closes_over_a_paused_request(tiny: Model) -> None:
    engine = Engine(tiny, config=PLAIN)
    slow = submit_slow(engine)
    engine.close()
    assert slow.ended.is_set()


def test_unknown_and_finished_requests_do_not_matter(single: Engine) -> None:
    (done,) = generate(single, [SHORT])
    single.set_paused([done.id, "nobody"], True)
    assert len(generate(single, [SHORT])) == 1
