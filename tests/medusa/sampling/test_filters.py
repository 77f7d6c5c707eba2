"""The fast filters leave what the plain ones do, whatever the row looks like."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medusa.sampling import filters, selecting
from medusa.sampling.candidates import Candidates
from medusa.sampling.passes import Weights
from tests.medusa.sampling import reference

rows = hnp.arrays(np.float32, st.integers(1, 400), elements=st.floats(-20, 20, width=32))
ties = hnp.arrays(np.float32, st.integers(1, 400), elements=st.sampled_from([-np.inf, -3, 0, 1]))
shares = st.floats(0, 1, exclude_max=True)
temperatures = st.sampled_from([0.2, 1.0, 2.0, 5.0, 1e6])


def possible(row: np.ndarray) -> np.ndarray:
    """A row in which something may be said."""
    return row if row.max() > -np.inf else np.zeros_like(row)


def weights(row: np.ndarray, temperature: float) -> np.ndarray:
    """[n] float32, as the filters see them: what is kept of them is compared to the bit."""
    return Candidates.of(row).at(temperature).weights


def kept(candidates: Candidates) -> list[int]:
    return [candidates.token(index) for index in range(len(candidates))]


@given(row=rows | ties, count=st.integers(1, 50))
def test_top_k_is_the_plain_one(row: np.ndarray, count: int) -> None:
    left = filters.top_k(Candidates.of(possible(row)), count)
    assert kept(left) == reference.top_k(possible(row), count)


@given(row=rows | ties, share=shares, keep=st.integers(0, 9), temperature=temperatures)
def test_top_p_is_the_plain_one(
    row: np.ndarray, share: float, keep: int, temperature: float
) -> None:
    likely = weights(possible(row), temperature)
    left = filters.top_p(Candidates.of(possible(row)).at(temperature), share, keep)
    assert kept(left) == reference.top_p(possible(row), likely, share, keep)


@given(row=rows | ties, share=st.floats(0, 1), keep=st.integers(0, 9), temperature=temperatures)
def test_min_p_is_the_plain_one(
    row: np.ndarray, share: float, keep: int, temperature: float
) -> None:
    likely = weights(possible(row), temperature)
    left = filters.min_p(Candidates.of(possible(row)).at(temperature), share, keep)
    assert kept(left) == reference.min_p(possible(row), likely, share, keep)


@pytest.mark.parametrize("n_vocab", [49_152, 152_064])
@pytest.mark.parametrize("temperature", [0.2, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("shape", ["normal", "peaked", "sorted", "equal", "two values", "rounded"])
def test_large_vocabularies_are_cut_as_plainly(
    n_vocab: int, temperature: float, shape: str
) -> None:
    rng = np.random.default_rng(5)
    row = rng.normal(0, 2.5, n_vocab).astype(np.float32)
    if shape == "peaked":
        row[rng.integers(0, n_vocab, 20)] += 15
    elif shape == "sorted":
        row.sort()
    elif shape == "equal":
        row[:] = 3.0
    elif shape == "two values":
        row = np.where(row > 1, np.float32(1), np.float32(0))
    elif shape == "rounded":
        row = row.round(1)
    likely = weights(row, temperature)
    for share in (0.0, 0.3, 0.9, 0.95, 0.999, 1 - 1e-9):
        left = filters.top_p(Candidates.of(row).at(temperature), share, 0)
        uniform = rng.random()
        drawn = left.draw(uniform)  # before anybody asks what is left
        assert kept(left) == reference.top_p(row, likely, share, 0), share
        among = np.zeros_like(likely)
        among[kept(left)] = likely[kept(left)]
        assert drawn == reference.draw(among, uniform), share
    for count in (1, 40, 5000):
        left = filters.top_k(Candidates.of(row), count)
        assert kept(left) == reference.top_k(row, count), count
    for uniform in rng.random(50):
        assert Weights(likely).crossing(uniform) == reference.draw(likely, uniform)


@given(row=rows | ties, uniform=shares, temperature=temperatures)
def test_a_draw_is_the_plain_one(row: np.ndarray, uniform: float, temperature: float) -> None:
    drawn = Candidates.of(possible(row)).at(temperature).draw(uniform)
    assert drawn == reference.draw(weights(possible(row), temperature), uniform)


@given(keys=hnp.arrays(np.float32, st.integers(1, 100), elements=st.floats(0, 9, width=32)))
def test_ascending_sorts_equal_keys_by_place(keys: np.ndarray) -> None:
    np.testing.assert_array_equal(
        selecting.ascending(np.abs(keys)), np.argsort(np.abs(keys), kind="stable")
    )


def test_a_temperature_of_0_leaves_the_likeliest() -> None:
    row = np.array([1, 3, 3, 2], np.float32)
    assert kept(filters.temperature(Candidates.of(row), 0.0)) == [1]


def test_xtc_leaves_the_least_likely_of_the_top_choices() -> None:
    row = np.log(np.array([0.1, 0.4, 0.2, 0.25, 0.05], np.float32))
    assert kept(filters.without_top_choices(Candidates.of(row), 0.19, 0)) == [0, 2, 4]
    assert kept(filters.without_top_choices(Candidates.of(row), 0.5, 0)) == [0, 1, 2, 3, 4]
    assert kept(filters.without_top_choices(Candidates.of(row), 0.19, 4)) == [0, 1, 2, 3, 4]


def test_what_was_cut_weighs_as_much_as_before_beside_the_rest() -> None:
    row = np.log(np.array([0.1, 0.4, 0.2, 0.25, 0.05], np.float32))
    left = filters.without_top_choices(Candidates.of(row), 0.19, 0)
    share = left.weights / left.weights.sum()
    np.testing.assert_allclose(share, np.array([0.1, 0.2, 0.05]) / 0.35, rtol=1e-5)
    np.testing.assert_allclose(np.exp(left.scaled), left.weights, rtol=1e-6)
