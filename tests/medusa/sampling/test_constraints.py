from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medusa.sampling.constraints import NothingAllowedError
from medusa.sampling.params import SamplingParams
from medusa.sampling.sampler import Sampler

rows = hnp.arrays(np.float32, st.integers(2, 400), elements=st.floats(-20, 20, width=32))


class InTurns:
    """Even tokens first, then odd ones, and so on."""

    def __init__(self, accepted: Sequence[int] = ()) -> None:
        self.accepted = list(accepted)

    def mask(self, row: np.ndarray) -> None:
        row[1 - len(self.accepted) % 2 :: 2] = -np.inf

    def accept(self, token: int) -> None:
        self.accepted.append(token)

    def forced(self) -> Sequence[int]:
        return ()

    def allows(self, token: int) -> bool:
        return token % 2 == len(self.accepted) % 2

    def fork(self) -> Self:
        return type(self)(self.accepted)


@given(row=rows, temperature=st.sampled_from([0.0, 0.7, 5.0]), top_k=st.sampled_from([0, 3]))
def test_only_allowed_tokens_are_chosen_and_all_are_told(
    row: np.ndarray, temperature: float, top_k: int
) -> None:
    constraint, before = InTurns(), row.copy()
    params = SamplingParams(temperature=temperature, top_k=top_k, seed=1)
    sampler = Sampler(params, [], constraint=constraint)
    chosen = [sampler.sample(row) for _ in range(6)]
    assert [token % 2 for token in chosen] == [0, 1] * 3
    assert constraint.accepted == chosen
    np.testing.assert_array_equal(row, before)


def test_a_constraint_outdoes_a_bias_and_sees_it() -> None:
    row = np.zeros(6, np.float32)
    params = SamplingParams(temperature=0, logit_bias={1: 100.0, 4: 1.0})
    assert Sampler(params, [], constraint=InTurns()).sample(row) == 4


def test_forbidden_tokens_stay_forbidden_whatever_a_constraint_does() -> None:
    class Insisting(InTurns):
        def mask(self, row: np.ndarray) -> None:
            row[1:] = -np.inf
            row[0] = 1e30

    sampler = Sampler(SamplingParams(temperature=0), [], frozenset({0}), Insisting())
    with pytest.raises(NothingAllowedError, match="no token may come next"):
        sampler.sample(np.zeros(4, np.float32))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_constraint_that_allows_nothing_is_an_error(temperature: float) -> None:
    class Nothing(InTurns):
        def mask(self, row: np.ndarray) -> None:
            row[:] = -np.inf

    constraint = Nothing()
    sampler = Sampler(SamplingParams(temperature=temperature), [], constraint=constraint)
    with pytest.raises(NothingAllowedError):
        sampler.sample(np.zeros(4, np.float32))
    assert constraint.accepted == []


class Forcing(InTurns):
    """Two tokens that are forced after each that is free."""

    def mask(self, row: np.ndarray) -> None:
        must = self._must()
        if must is not None:
            row[np.arange(len(row)) != must] = -np.inf

    def allows(self, token: int) -> bool:
        return self._must() in (None, token)

    def _must(self) -> int | None:
        return len(self.accepted) % 3 - 1 if len(self.accepted) % 3 else None


class Telling(Forcing):
    """The same, but it tells what it forces."""

    def forced(self) -> Sequence[int]:
        must = self._must()
        return () if must is None else (must,)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0),
        SamplingParams(temperature=1.5, top_p=0.9, min_p=0.01, top_k=30, typical_p=0.95),
        SamplingParams(temperature=1, top_n_sigma=1.0, dynatemp_range=0.5),
        SamplingParams(temperature=1, mirostat=1),
        SamplingParams(temperature=1, mirostat=2),
        SamplingParams(temperature=1, xtc_probability=0.5, xtc_threshold=0.01),
        SamplingParams(temperature=1, repetition_penalty=1.3, presence_penalty=0.5),
    ],
    ids=["greedy", "filters", "dynamic", "mirostat1", "mirostat2", "xtc", "penalties"],
)
def test_what_is_told_to_be_forced_changes_nothing_but_the_work(params: SamplingParams) -> None:
    rows = np.random.default_rng(5).normal(0, 2, (60, 50)).astype(np.float32)
    settings = replace(params, seed=3)
    silent = Sampler(settings, [], constraint=Forcing())
    telling = Sampler(settings, [], constraint=Telling())
    expected = [silent.sample(row) for row in rows]
    for place, (row, token) in enumerate(zip(rows, expected, strict=True)):
        unseen = np.full_like(row, np.nan)  # of what is forced
        assert telling.sample(unseen if place % 3 else row) == token


@pytest.mark.parametrize(
    "banned",
    [
        {"allowed_tokens": frozenset({3})},
        {"bad_words": ((0,),)},
        {"bad_words": ((2, 0),)},
        {"logit_bias": {0: -np.inf, 2: 100.0}},
    ],
    ids=["allowed", "word", "words", "bias"],
)
def test_what_is_forced_and_banned_leaves_nothing(banned: dict[str, Any]) -> None:
    params = SamplingParams(temperature=0, **banned)
    row = np.array([0, 0, 1, 0], np.float32)
    sampler = Sampler(params, [], constraint=Telling())
    sampler.sample(row)
    with pytest.raises(NothingAllowedError):
        sampler.sample(row)


def test_an_end_that_is_forced_too_early_leaves_nothing() -> None:
    sampler = Sampler(SamplingParams(min_tokens=2), [], constraint=Telling(), ends=[0])
    row = np.arange(4, dtype=np.float32)
    sampler.sample(row)
    with pytest.raises(NothingAllowedError):
        sampler.sample(row)
