"""Constraints on what may be sampled, with a double in place of a grammar."""

from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.events import Failed, FailureKind
from medusa.engine.requests import GenerationRequest
from medusa.llama import runtime
from medusa.llama.model import Model
from medusa.sampling.constraints import CostlyConstraintError, NothingAllowedError
from medusa.sampling.params import SamplingParams
from medusa.speculation.cost import FixedCost
from medusa.speculation.heads.loading import load_heads
from tests.conftest import THREADS, generate
from tests.medusa.engine.conftest import GREEDY


class Even:
    """Only even tokens, and 42 after each that 10 divides."""

    def __init__(self, last: int = 1) -> None:
        self._last = last

    def mask(self, row: np.ndarray) -> None:
        row[1::2] = -np.inf
        if self.forced():
            row[:42] = row[43:] = -np.inf

    def accept(self, token: int) -> None:
        self._last = token

    def forced(self) -> list[int]:
        return [42] if self._last % 10 == 0 else []

    def allows(self, token: int) -> bool:
        return token == 42 if self.forced() else token % 2 == 0

    def fork(self) -> Self:
        return type(self)(self._last)


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


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("it broke"), FailureKind.INTERNAL),
        (CostlyConstraintError("it takes long"), FailureKind.COSTLY_GRAMMAR),
        (NothingAllowedError("no token may come"), FailureKind.NOTHING_ALLOWED),
    ],
)
def test_a_constraint_that_breaks_ends_its_own_request_alone(
    engine: Engine, error: Exception, kind: FailureKind, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Even):
        def mask(self, row: np.ndarray) -> None:
            raise error

    good = GenerationRequest((1, 2, 3), GREEDY, max_tokens=10, ignore_eos=True)
    bad = GenerationRequest((1, 2, 3), GREEDY, max_tokens=10, constraint=Broken)
    runs = generate(engine, [good, bad])
    assert runs[0].finished.usage.completion_tokens == 10
    failed = runs[1].events[-1]
    assert isinstance(failed, Failed)
    assert failed.kind is kind
    assert str(error) in failed.message
    assert bool(caplog.records) == (kind is FailureKind.INTERNAL)
