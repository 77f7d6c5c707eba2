import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medusa.errors import NotNumbersError
from medusa.sampling.candidates import Candidates
from medusa.sampling.chain import filters_of
from medusa.sampling.params import SamplingParams
from medusa.sampling.passes import Weights
from medusa.sampling.sampler import Sampler
from medusa.sampling.softmax import log_softmax

rows = hnp.arrays(np.float32, st.integers(2, 400), elements=st.floats(-20, 20, width=32))


def softmax(row: np.ndarray, temperature: float) -> np.ndarray:
    scaled = row.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    return weights / weights.sum()


def candidates(row: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, np.ndarray]:
    """Ids and weights of what the settings leave."""
    left = Candidates.of(row)
    for step in filters_of(params, np.random.default_rng(0)):
        left = step(left)
    return np.array([left.token(index) for index in range(len(left))]), left.weights


def full(ids: np.ndarray, probs: np.ndarray, size: int) -> np.ndarray:
    dense = np.zeros(size)
    dense[ids] = probs
    return dense


@given(row=rows, temperature=st.floats(0.2, 2))
def test_without_filters_it_is_softmax(row: np.ndarray, temperature: float) -> None:
    ids, weights = candidates(row, SamplingParams(temperature=temperature))
    probs = weights / weights.sum(dtype=np.float64)
    np.testing.assert_allclose(
        full(ids, probs, len(row)), softmax(row, temperature), rtol=1e-3, atol=1e-7
    )


@given(row=rows, top_k=st.integers(1, 50))
def test_top_k_keeps_the_k_likeliest(row: np.ndarray, top_k: int) -> None:
    ids, _ = candidates(row, SamplingParams(top_k=top_k))
    k = min(top_k, len(row))
    assert len(ids) == k
    np.testing.assert_allclose(np.sort(row[ids]), np.sort(row)[-k:], atol=1e-6)


@given(row=rows, top_p=st.floats(0.01, 0.99))
def test_top_p_keeps_the_smallest_sufficient_set(row: np.ndarray, top_p: float) -> None:
    ids, _ = candidates(row, SamplingParams(top_p=top_p))
    mass = softmax(row, 1.0)
    assert mass[ids].sum() >= top_p - 1e-6
    assert np.sort(mass[ids])[1:].sum() < top_p + 1e-6
    assert row[ids].min() >= np.sort(row)[::-1][: len(ids)].min() - 1e-5


@given(row=rows, min_p=st.floats(0.01, 1))
def test_min_p_drops_what_is_much_less_likely_than_the_best(row: np.ndarray, min_p: float) -> None:
    ids, _ = candidates(row, SamplingParams(min_p=min_p))
    mass = softmax(row, 1.0)
    kept = np.zeros(len(row), bool)
    kept[ids] = True
    assert (mass[kept] >= min_p * mass.max() * (1 - 1e-5)).all()
    assert (mass[~kept] <= min_p * mass.max() * (1 + 1e-5)).all()


@given(row=rows)
def test_greedy_takes_the_best_and_leaves_the_row_alone(row: np.ndarray) -> None:
    before = row.copy()
    params = SamplingParams(temperature=0, frequency_penalty=1.0, logit_bias={0: 1.0})
    sampler = Sampler(params, prompt=[])
    expected = row.copy()
    expected[0] += 1
    assert sampler.sample(row) == expected.argmax()
    np.testing.assert_array_equal(row, before)


@pytest.mark.parametrize("temperature", [1e-7, 7e-46, 1e-300])
@given(row=rows)
def test_temperatures_that_are_as_good_as_0_are_greedy(temperature: float, row: np.ndarray) -> None:
    sampler = Sampler(SamplingParams(temperature=temperature, seed=1), prompt=[])
    assert sampler.sample(row) == row.argmax()


@given(
    weights=hnp.arrays(np.float32, st.integers(1, 2000), elements=st.sampled_from([0, 0.5, 1, 3])),
    uniform=st.floats(0, 1, exclude_max=True),
)
def test_draw_inverts_the_cumulated_weights(weights: np.ndarray, uniform: float) -> None:
    weights[-1] = 1
    index = Weights(weights).crossing(uniform)
    mass = np.cumsum(weights.astype(np.float64))
    assert weights[index] > 0
    assert mass[index] >= uniform * mass[-1]
    assert index == 0 or mass[index - 1] <= uniform * mass[-1]


def test_draws_follow_the_distribution() -> None:
    row = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    sampler = Sampler(SamplingParams(seed=1), prompt=[])
    counts = np.bincount([sampler.sample(row) for _ in range(20_000)], minlength=4)
    np.testing.assert_allclose(counts / 20_000, [0.5, 0.3, 0.15, 0.05], atol=0.015)


def test_a_seed_gives_the_same_draws_and_another_seed_others() -> None:
    row = np.zeros(1000, np.float32)

    def draws(seed: int) -> list[int]:
        sampler = Sampler(SamplingParams(seed=seed), prompt=[])
        return [sampler.sample(row) for _ in range(10)]

    assert draws(3) == draws(3)
    assert draws(3) != draws(4)


def test_penalties_follow_their_formulas() -> None:
    row = np.array([2.0, 2.0, -1.0, 1.0, 0.0], np.float32)
    params = SamplingParams(
        temperature=0, presence_penalty=0.5, frequency_penalty=0.25, repetition_penalty=2.0
    )
    sampler = Sampler(params, prompt=[2])
    assert sampler.sample(row) == 0
    # token 0: 2/2 - 0.5 - 0.25; token 2: -1*2, prompt only; the others unchanged
    np.testing.assert_allclose(sampler._adjust(row), [0.25, 2.0, -2.0, 1.0, 0.0])
    assert [sampler.sample(row) for _ in range(3)] == [1, 3, 0]


def test_forbidden_tokens_are_never_chosen() -> None:
    row = np.array([9.0, 1.0, 0.0], np.float32)
    sampler = Sampler(SamplingParams(temperature=0), prompt=[], forbidden=frozenset({0}))
    assert sampler.sample(row) == 1


@given(row=rows)
def test_log_softmax_sums_to_one(row: np.ndarray) -> None:
    assert np.exp(log_softmax(row)).sum() == pytest.approx(1)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [np.nan, np.inf, None])
def test_logits_that_are_no_numbers_are_refused(temperature: float, bad: float | None) -> None:
    row = np.full(1000, -np.inf, np.float32)
    if bad is not None:
        row = np.random.default_rng(0).standard_normal(1000, np.float32)
        row[500] = bad
    params = SamplingParams(temperature=temperature, top_k=20)
    with pytest.raises(NotNumbersError, match="not numbers"):
        Sampler(params, []).sample(row)
    with pytest.raises(NotNumbersError, match="not numbers"):
        log_softmax(row)


def test_tokens_that_a_model_never_says_are_no_error() -> None:
    row = np.full(1000, -np.inf, np.float32)
    row[3] = 1.0
    for temperature in (0.0, 1.0):
        assert Sampler(SamplingParams(temperature=temperature), []).sample(row) == 3


def test_penalties_look_no_further_back_than_they_are_told() -> None:
    row = np.array([2.0, 2.0, 2.0, 1.0], np.float32)
    params = SamplingParams(
        temperature=0, presence_penalty=0.5, repetition_penalty=2.0, penalty_last_n=2
    )
    sampler = Sampler(params, prompt=[2, 1])
    np.testing.assert_allclose(sampler._adjust(row), [2.0, 1.0, 1.0, 1.0])
    assert sampler.sample(row) == 0
    np.testing.assert_allclose(sampler._adjust(row), [0.5, 1.0, 2.0, 1.0])
