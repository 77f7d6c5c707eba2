from collections.abc import Sequence
from typing import Self

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
