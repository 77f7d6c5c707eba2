"""Whatever goes wrong while guessing costs guesses, never a request."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.report import StepReport
from medusa.engine.requests import GenerationRequest
from medusa.llama.model import Model
from medusa.sampling.params import SamplingParams
from medusa.speculation.calibration import Calibration
from medusa.speculation.cost import FixedCost
from medusa.speculation.growth import TreeGrowth
from medusa.speculation.heads.guessing import Heads, Proposals
from medusa.speculation.heads.loading import load_heads
from medusa.speculation.sources.ngrams import NgramText
from medusa.speculation.tree import StaticShape
from tests.conftest import THREADS, Run, generate

GREEDY = SamplingParams(temperature=0)
REQUESTS = [GenerationRequest((1, 2, 3 + i, 2, 3), GREEDY, 24, ignore_eos=True) for i in range(3)]


def answers(
    model: Model, heads: Heads | None, draft_nodes: int = 8
) -> tuple[list[Run], list[StepReport]]:
    steps: list[StepReport] = []
    config = EngineConfig(
        n_slots=3, n_ctx=1024, n_threads=THREADS, draft_nodes=draft_nodes, cost=FixedCost()
    )
    engine = Engine(model, heads, config, steps.append)
    runs = generate(engine, REQUESTS)
    runs += generate(engine, REQUESTS)
    engine.close()
    return runs, steps


@pytest.fixture(scope="module")
def plain(model: Model) -> list[list[int]]:
    return [run.tokens for run in answers(model, None, draft_nodes=0)[0]]


def breaking(*_: object) -> None:
    raise RuntimeError("guessing broke")


def break_propose(heads: Heads, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(heads, "propose", breaking)


def break_shapes(heads: Heads, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(heads, "propose", lambda *_: [])


def break_values(heads: Heads, patch: pytest.MonkeyPatch) -> None:
    real = heads.propose

    def propose(hidden: np.ndarray, roots: np.ndarray) -> list[Proposals]:
        return [
            Proposals(np.full_like(p.tokens, 10**6), np.full_like(p.probs, np.nan))
            for p in real(hidden, roots)
        ]

    patch.setattr(heads, "propose", propose)


def break_calibration(_heads: Heads, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Calibration, "estimate", breaking)


def break_learning(_heads: Heads, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Calibration, "observe", breaking)


def break_lookup(_heads: Heads, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(NgramText, "match", breaking)


def break_growth(_heads: Heads, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TreeGrowth, "grow", breaking)


@pytest.mark.parametrize(
    "damage",
    [
        break_propose,
        break_shapes,
        break_values,
        break_calibration,
        break_learning,
        break_lookup,
        break_growth,
    ],
)
def test_answers_are_those_without_guesses(
    model: Model,
    heads_path: Path,
    plain: list[list[int]],
    damage: Callable[[Heads, pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    heads = load_heads(heads_path, model)
    damage(heads, monkeypatch)
    with caplog.at_level(logging.ERROR):
        runs, steps = answers(model, heads)
    assert [run.tokens for run in runs] == plain
    if damage is not break_values:  # which are nothing to guess from, but no error
        assert 1 <= sum(step.draft_failures for step in steps) < 20
        assert 1 <= len(caplog.records) <= 2, "one line for the first failure, one for the last"


def test_a_fixed_tree_shares_the_nodes_of_a_step(model: Model, heads_path: Path) -> None:
    """32 slots of up to 16 guesses each would not fit into one decode."""
    shape = StaticShape(
        tuple((i,) for i in range(4)) + tuple((i, j) for i in range(3) for j in (0, 1))
    )
    config = EngineConfig(
        n_slots=32, n_ctx=8192, n_threads=THREADS, draft_nodes=16, tree_shape=shape
    )
    steps: list[StepReport] = []
    engine = Engine(model, load_heads(heads_path, model), config, steps.append)
    requests = [GenerationRequest((1, 2, i), GREEDY, 6, ignore_eos=True) for i in range(32)]
    runs = generate(engine, requests)
    engine.close()
    assert [run.finished.usage.completion_tokens for run in runs] == [6] * 32
    assert max(step.drafts_proposed for step in steps) == 16
