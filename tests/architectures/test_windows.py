"""Sliding windows that keep the newest cells only: less memory, and less is reused.

How they work when all cells are kept, which is the default, is in test_matrix.py.
"""

import random
from collections.abc import Sequence

import pytest

from medusa.engine.client import Generated
from medusa.engine.engine import Engine
from medusa.llama.model import Model
from medusa.speculation.cost import FixedCost
from medusa.speculation.drafter import Drafter
from tests.architectures.comparison import assert_same
from tests.architectures.conftest import TinyModels
from tests.architectures.exactness import tolerance_of
from tests.architectures.oracle import Oracle
from tests.architectures.reference import Expected, evaluate
from tests.architectures.requests import continued, random_request, random_requests, random_tokens
from tests.architectures.test_matrix import DRAFT_NODES, running
from tests.conftest import generate

pytestmark = pytest.mark.parametrize("name", ["cohere2", "olmo3"])


def conversations(model: Model, dice: random.Random, count: int) -> list[Expected]:
    """Turns that mostly go on from an earlier one, cut somewhere now and then."""
    turns: list[Expected] = []
    while len(turns) < count:
        request = random_request(dice, random_tokens(dice, dice.randint(5, 120)))
        if turns and dice.random() < 0.8:
            before = dice.choice(turns[-6:])
            request = continued(dice, before.request.prompt, before.answer)
        turns.append(evaluate(model, request))
    return turns


def answers(engine: Engine, turns: Sequence[Expected], at_once: int) -> list[Generated]:
    runs = []
    for start in range(0, len(turns), at_once):
        runs += generate(engine, [turn.request for turn in turns[start : start + at_once]])
    return [run.generated for run in runs]


def cached_tokens(generated: Sequence[Generated]) -> int:
    return sum(answer.usage.cached_tokens for answer in generated if answer.usage)


def test_what_has_left_the_window_is_not_reused(tiny: TinyModels, name: str) -> None:
    """Two slots whose windows have 256 cells, so that prompts overwrite them."""
    model = tiny(name)
    turns = conversations(model, random.Random(1), 60)
    options = {"n_slots": 2, "n_ctx": 1024, "n_batch": 64}
    with running(model, swa_full=False, **options) as engine:
        short = answers(engine, turns, 2)
    assert_same(model, turns, short, tolerance_of(model))
    with running(model, **options) as engine:
        full = answers(engine, turns, 2)
    assert 0 < cached_tokens(short) < cached_tokens(full)


def test_many_at_once(tiny: TinyModels, name: str) -> None:
    model = tiny(name)
    expected = [evaluate(model, r) for r in random_requests(random.Random(2), 40)]
    with running(model, swa_full=False) as engine:
        generated = answers(engine, expected, len(expected))
    assert_same(model, expected, generated, tolerance_of(model))


def test_drafts_are_chains(tiny: TinyModels, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, dice = tiny(name), random.Random(3)
    expected = conversations(model, dice, 30)
    drafter = Drafter([Oracle(expected, dice)], FixedCost(), DRAFT_NODES)
    monkeypatch.setattr(Drafter, "create", lambda *_: drafter)
    with running(model, swa_full=False, n_slots=3, draft_nodes=DRAFT_NODES) as engine:
        generated = answers(engine, expected, 3)
    assert_same(model, expected, generated, tolerance_of(model))
    usages = [answer.usage for answer in generated if answer.usage]
    assert sum(usage.accepted_drafts for usage in usages) > len(usages) / 2
    assert sum(usage.rejected_drafts for usage in usages) > len(usages)
