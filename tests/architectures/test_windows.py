"""Sliding windows that keep the newest cells only: less is reused, and never what is gone.

What else holds of them is in test_matrix.py.
"""

import random
from collections.abc import Sequence

import pytest

from medusa.engine.client import Generated
from medusa.engine.engine import Engine
from tests.architectures.conftest import Subjects
from tests.architectures.reference import Expected
from tests.architectures.test_matrix import running
from tests.conftest import generate


def answers(engine: Engine, turns: Sequence[Expected], at_once: int) -> list[Generated]:
    runs = []
    for start in range(0, len(turns), at_once):
        runs += generate(engine, [turn.request for turn in turns[start : start + at_once]])
    return [run.generated for run in runs]


def cached_tokens(generated: Sequence[Generated]) -> int:
    return sum(answer.usage.cached_tokens for answer in generated if answer.usage)


@pytest.mark.parametrize("name", ["cohere2", "gemma3"])
def test_what_has_left_the_window_is_not_reused(subject_of: Subjects, name: str) -> None:
    """Two slots share 256 cells of the windowed layers, so that prompts overwrite each other."""
    subject = subject_of(f"{name}-short")
    turns = subject.conversations(random.Random(1), 60)
    with running(subject, n_slots=2) as engine:
        short = answers(engine, turns, 2)
    subject.compare(turns, short)
    with running(subject_of(name), n_slots=2) as engine:
        full = answers(engine, turns, 2)
    assert 0 < cached_tokens(short) < cached_tokens(full)
