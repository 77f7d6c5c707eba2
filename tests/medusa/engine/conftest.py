"""An engine without guesses, on the real model."""

import time
from collections.abc import Callable, Iterator

import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.report import StepReport
from medusa.llama.model import Model
from medusa.sampling.params import SamplingParams
from tests.conftest import THREADS

GREEDY = SamplingParams(temperature=0)


@pytest.fixture
def steps() -> list[StepReport]:
    return []


@pytest.fixture
def engine(model: Model, steps: list[StepReport]) -> Iterator[Engine]:
    config = EngineConfig(n_slots=3, n_ctx=2048, n_threads=THREADS, max_queue=2, draft_nodes=0)
    engine = Engine(model, config=config, observer=steps.append)
    yield engine
    engine.close()


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.005)
