import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.speculation.calibration import BINS, Calibration, bin_of

N_HEADS, TOP_K = 2, 3


def counts(hits: float, trials: float) -> np.ndarray:
    """The same counts in every bin of every guess."""
    shape = (N_HEADS, TOP_K, BINS)
    return np.stack([np.full(shape, hits), np.full(shape, trials)])


def estimate(calibration: Calibration, probs: np.ndarray) -> np.ndarray:
    return np.array(calibration.estimate(probs.tolist()))


def spread(top: float) -> np.ndarray:
    """[N_HEADS, TOP_K] probabilities."""
    return np.tile(np.array([top, top / 4, top / 8], np.float32), (N_HEADS, 1))


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=2).map(sorted))
def test_bins_are_in_order_and_cover_all_probabilities(probs: list[float]) -> None:
    low, high = bin_of(np.array(probs, np.float32))
    assert 0 <= low <= high < BINS


def test_every_bin_is_somebodys() -> None:
    assert set(bin_of(np.linspace(0, 1, 1001, dtype=np.float32)).tolist()) == set(range(BINS))


def test_estimates_start_at_the_counts_that_came_with_the_heads() -> None:
    calibration = Calibration(counts(3000.0, 10_000.0))
    np.testing.assert_allclose(estimate(calibration, spread(0.9)), 0.3, atol=0.01)


def test_every_head_rank_and_bin_has_an_estimate_of_its_own() -> None:
    table = counts(0.0, 1e6)
    table[0] = 1e6 * np.arange(N_HEADS * TOP_K * BINS).reshape(N_HEADS, TOP_K, BINS) / 100
    estimates = estimate(Calibration(table), np.array([[0.95, 0.0, 0.5], [0.0, 0.3, 0.1]]))
    bins = bin_of(np.array([[0.95, 0.0, 0.5], [0.0, 0.3, 0.1]]))
    for head in range(N_HEADS):
        for rank in range(TOP_K):
            expected = table[0, head, rank, bins[head, rank]] / 1e6
            assert estimates[head, rank] == pytest.approx(expected, abs=0.01)


def test_bins_without_trials_believe_the_heads() -> None:
    estimates = estimate(Calibration(counts(0.0, 0.0)), spread(0.8))
    np.testing.assert_allclose(estimates, spread(0.8), atol=0.1)


def test_heads_without_counts_are_believed() -> None:
    probs = spread(0.65)
    np.testing.assert_allclose(
        estimate(Calibration.trusting(N_HEADS, TOP_K), probs), probs, atol=0.1
    )


def test_fewer_ranks_than_counted_can_be_estimated() -> None:
    calibration = Calibration(counts(50.0, 100.0))
    whole = estimate(calibration, spread(0.5))
    np.testing.assert_array_equal(estimate(calibration, spread(0.5)[:, :1]), whole[:, :1])


@pytest.mark.parametrize(("prior", "rate"), [(0.9, 0.2), (0.1, 0.7)])
def test_estimates_follow_an_acceptance_that_changed(prior: float, rate: float) -> None:
    calibration = Calibration(counts(prior * 1e6, 1e6))
    rng = np.random.default_rng(0)
    probs = spread(0.5)
    for _ in range(3000):
        calibration.observe(0, probs[0].tolist(), 0 if rng.random() < rate else None)
    first, other = estimate(calibration, probs)
    assert first[0] == pytest.approx(rate, abs=0.1)
    assert first[1] < 0.05
    np.testing.assert_allclose(other, prior, atol=0.02, err_msg="another head's guesses")
    elsewhere = estimate(calibration, spread(0.95))[0, 0]
    assert elsewhere == pytest.approx(prior, abs=0.02), "another bin's guesses"


def test_what_the_engine_sees_outweighs_large_counts_in_time() -> None:
    """The prior counts as some hundred trials, however many it is made of."""
    small, large = Calibration(counts(900.0, 1000.0)), Calibration(counts(9e8, 1e9))
    for calibration in (small, large):
        for _ in range(400):
            calibration.observe(0, spread(0.5)[0].tolist(), None)
    estimates = [estimate(c, spread(0.5))[0, 0] for c in (small, large)]
    assert estimates[0] == pytest.approx(estimates[1])
    assert estimates[0] < 0.45


@given(
    prior=st.sampled_from([0.0, 0.5, 1.0]),
    seen=st.lists(
        st.tuples(
            st.integers(0, N_HEADS - 1),
            st.lists(st.floats(0, 1, width=32), min_size=TOP_K, max_size=TOP_K),
            st.none() | st.integers(0, TOP_K - 1),
        ),
        max_size=40,
    ),
)
def test_estimates_are_chances(
    prior: float, seen: list[tuple[int, list[float], int | None]]
) -> None:
    calibration = Calibration(counts(prior * 100, 100.0))
    for head, probs, right in seen:
        calibration.observe(head, probs, right)
    for top in (0.0, 0.01, 0.1, 0.5, 0.99, 1.0):
        estimates = estimate(calibration, spread(top))
        assert (estimates > 0).all()
        assert (estimates <= 1).all()
