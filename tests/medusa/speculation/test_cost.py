import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.speculation.cost import MeasuredCost

SIZES = (1, 2, 4, 8, 16)
SECONDS = (0.010, 0.011, 0.013, 0.017, 0.033)
BUDGET = 1.0


class FakeDecode:
    """Notes the sizes it was called with; a call takes as long as the function says."""

    def __init__(self, start: float, slope: float = 0.0) -> None:
        self.sizes: list[int] = []
        self.seconds: list[float] = []
        self._start, self._slope = start, slope

    def __call__(self, n_tokens: int) -> float:
        self.sizes.append(n_tokens)
        self.seconds.append(self._start + self._slope * n_tokens)
        return self.seconds[-1]


def measured() -> MeasuredCost:
    return MeasuredCost(SIZES, SECONDS)


def test_measured_sizes_cost_what_was_measured() -> None:
    cost = measured()
    assert [cost.seconds(size) for size in SIZES] == pytest.approx(SECONDS)


def test_costs_are_interpolated_in_between() -> None:
    cost = measured()
    assert cost.seconds(3) == pytest.approx(0.012)
    assert cost.seconds(12) == pytest.approx(0.025)


@pytest.mark.parametrize("n_tokens", [17, 18, 100])
def test_costs_rise_as_steeply_beyond_the_largest_size(n_tokens: int) -> None:
    assert measured().seconds(n_tokens) == pytest.approx(0.033 + 0.002 * (n_tokens - 16))


def test_a_single_size_is_extended_in_proportion() -> None:
    cost = MeasuredCost([4], [0.1])
    assert [cost.seconds(n) for n in (1, 4, 5, 8, 40)] == pytest.approx([0.1, 0.1, 0.125, 0.2, 1.0])


@given(
    st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=5).map(
        lambda seconds: MeasuredCost(SIZES[: len(seconds)], seconds)
    )
)
def test_costs_never_fall_with_the_size_however_noisy_the_measurement(cost: MeasuredCost) -> None:
    costs = [cost.seconds(n) for n in range(1, 40)]
    assert costs == pytest.approx(np.maximum.accumulate(costs))
    assert costs[0] > 0


def test_measuring_takes_the_best_of_a_few_rounds_up_to_the_largest_size() -> None:
    decode = FakeDecode(0.001, 0.0001)
    cost = MeasuredCost.measure(decode, 24)
    assert sorted(set(decode.sizes)) == [1, 2, 4, 8, 16, 24]
    assert max(decode.sizes.count(size) for size in (2, 4, 8, 16, 24)) <= 9
    assert cost.seconds(24) == pytest.approx(0.0034)

    slow_first = iter([0.09, *[0.02] * 4, *[0.03, 0.01] * 4])
    assert MeasuredCost.measure(lambda _n: next(slow_first), 2).seconds(2) == 0.01


def test_a_bad_start_spoils_no_size() -> None:
    decode = FakeDecode(0.001, 0.0001)
    late = MeasuredCost.measure(
        lambda n: decode(n) * (2.0 if len(decode.sizes) <= 8 else 1.0), largest=16
    )
    assert [late.seconds(n) for n in (1, 2, 4, 8, 16)] == pytest.approx(
        [0.001 + 0.0001 * n for n in (1, 2, 4, 8, 16)]
    )


@pytest.mark.parametrize("largest", [1, 2, 3, 64, 200])
def test_measuring_never_decodes_more_than_the_largest_step(largest: int) -> None:
    decode = FakeDecode(0.001)
    MeasuredCost.measure(decode, largest)
    assert max(decode.sizes) == largest


@pytest.mark.parametrize("start", [0.01, 0.05, 0.3, 0.9, 5.0])
def test_measuring_ends_with_the_decode_that_uses_up_its_time(start: float) -> None:
    decode = FakeDecode(start, slope=start / 10)
    cost = MeasuredCost.measure(decode, 72)
    warm_up, *counted, last = decode.seconds
    assert warm_up == decode.seconds[1]
    assert sum(counted) <= BUDGET
    if sum(counted) + last > BUDGET:
        assert cost.seconds(72) > 0
    else:
        assert decode.sizes[-1] == 72


@pytest.mark.parametrize("n_tokens", [1, 3, 8, 11, 16, 30])
@pytest.mark.parametrize("factor", [0.5, 4.0])
def test_costs_converge_to_what_is_observed(n_tokens: int, factor: float) -> None:
    cost = measured()
    level = factor * cost.seconds(n_tokens)
    for _ in range(400):
        cost.observe(n_tokens, level, 0.0)
    assert cost.seconds(n_tokens) == pytest.approx(level, rel=0.02)


def test_a_size_that_was_held_up_when_it_was_measured_is_known_better_by_its_neighbours() -> None:
    cost = MeasuredCost(SIZES, (0.010, 0.011, 0.013, 0.030, 0.033))
    assert cost.seconds(8) == pytest.approx(0.026)  # two decodes of 4
    for _ in range(100):
        cost.observe(16, 0.020, 0.0)
    assert cost.seconds(8) == pytest.approx(0.020, rel=0.01)
    for _ in range(100):
        cost.observe(4, 0.004, 0.0)
    assert [cost.seconds(n) for n in (1, 2, 8, 16)] == pytest.approx(
        [0.004, 0.004, 0.008, 0.016], rel=0.01
    )


def test_other_sizes_keep_their_cost() -> None:
    cost = measured()
    for _ in range(100):
        cost.observe(8, 0.1, 0.0)
    for n_tokens in (1, 2, 4, 16):
        assert cost.seconds(n_tokens) == pytest.approx(measured().seconds(n_tokens))


def test_the_time_beside_a_decode_belongs_to_every_step() -> None:
    cost = measured()
    for _ in range(200):
        cost.observe(4, 0.013, 0.005)
    for n_tokens in (1, 4, 16, 17, 50):
        assert cost.seconds(n_tokens) == pytest.approx(
            measured().seconds(n_tokens) + 0.005, rel=1e-3
        )


def test_a_decode_that_was_held_up_counts_as_three_times_the_expected_time() -> None:
    held_up, slow = measured(), measured()
    held_up.note(8)
    slow.note(8)
    held_up.observe(8, 60.0, 0.0)
    slow.observe(8, 3 * 0.017, 0.0)
    assert held_up.seconds(8) == pytest.approx(slow.seconds(8))
    assert held_up.seconds(8) < 1.3 * 0.017


def test_a_change_of_size_is_measured_and_not_taken_for_a_slow_decode() -> None:
    last = [0]

    def decode(n_tokens: int) -> float:
        seconds = 0.01 + 0.001 * n_tokens + 0.002 * (n_tokens != last[0])
        last[0] = n_tokens
        return seconds

    cost = MeasuredCost.measure(decode, 16)
    assert cost.change_seconds == pytest.approx(0.002)
    assert cost.seconds(4) == pytest.approx(0.014)
    for size in (4, 8) * 200:
        cost.observe(size, 0.012 + 0.001 * size, 0.0)
    assert cost.seconds(4) == pytest.approx(0.014)


def test_the_decode_after_a_change_may_be_slow_too() -> None:
    """As on a GPU, which records a graph the second time it sees it."""
    run: list[int] = []

    def decode(n_tokens: int) -> float:
        run[:] = [*run, n_tokens] if n_tokens in run else [n_tokens]
        return 0.001 + 0.0001 * n_tokens + {1: 0.001, 2: 0.003}.get(len(run), 0.0)

    cost = MeasuredCost.measure(decode, 16)
    assert cost.change_seconds == pytest.approx(0.004)
    for size in (*[4] * 10, *[8] * 10) * 100:
        cost.observe(size, decode(size), 0.0)
    assert cost.seconds(4) == pytest.approx(0.0014, rel=1e-3)
    assert cost.change_seconds == pytest.approx(0.004, rel=0.1)


@pytest.mark.parametrize("change", [0.0, 0.004])
def test_what_a_change_of_size_costs_is_followed(change: float) -> None:
    cost = MeasuredCost(SIZES, SECONDS, change_seconds=0.002)
    for size, is_change in ((4, True), (4, False), (8, True), (8, False)) * 200:
        cost.observe(size, measured().seconds(size) + is_change * change, 0.0)
    assert cost.change_seconds == pytest.approx(change, abs=1e-5)
    assert [cost.seconds(n) for n in (4, 8)] == pytest.approx([0.013, 0.017], rel=1e-3)


def test_a_change_counts_twice_where_it_is_always_taken_back() -> None:
    back_and_forth, once = (MeasuredCost(SIZES, SECONDS, change_seconds=0.002) for _ in range(2))
    for size in (4, 8) * 100:
        back_and_forth.observe(size, measured().seconds(size) + 0.002, 0.0)
    for size in (4, 8) * 20:
        once.observe(size, measured().seconds(size) + 0.002, 0.0)
        for _ in range(5):
            once.observe(size, measured().seconds(size), 0.0)
    assert back_and_forth.change_seconds == pytest.approx(0.004, rel=1e-3)
    assert once.change_seconds == pytest.approx(0.002, rel=1e-3)


def test_a_decode_of_the_size_of_one_that_was_noted_is_no_change() -> None:
    cost = measured()
    cost.note(4)
    cost.observe(4, 0.02, 0.0)
    assert cost.seconds(4) > 0.013
    assert cost.change_seconds == 0.0
