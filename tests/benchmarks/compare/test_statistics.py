"""Properties that any medians, percentiles and intervals have."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.compare.statistics import (
    Spread,
    common_prefix,
    geometric_mean,
    percentile,
    ratio,
)

times = st.floats(min_value=0.001, max_value=1e6)
some = st.lists(times, min_size=1, max_size=20)


@given(some)
def test_a_spread_is_ordered(values: list[float]) -> None:
    spread = Spread.of(values)
    assert spread.low <= spread.median <= spread.high
    assert {spread.low, spread.high} <= set(values)


@given(some)
def test_percentiles_go_from_the_least_to_the_greatest(values: list[float]) -> None:
    found = [percentile(values, share / 10) for share in range(11)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (min(values), max(values))
    assert percentile(values, 0.5) == pytest.approx(statistics.median(values))


def test_a_percentile_between_two_values_is_in_proportion() -> None:
    assert percentile([0.0, 10.0], 0.95) == pytest.approx(9.5)


@given(st.lists(st.tuples(times, times), min_size=1, max_size=8))
def test_a_ratio_lies_in_its_interval_and_is_the_same_each_time(
    rounds: list[tuple[float, float]],
) -> None:
    above, below = zip(*rounds, strict=True)
    found = ratio(above, below)
    assert found == ratio(above, below)
    assert found.value == statistics.median(above) / statistics.median(below)
    assert found.low <= found.high


@given(some, st.floats(min_value=0.1, max_value=10))
def test_what_is_faster_by_the_same_factor_in_all_rounds_has_a_sure_ratio(
    values: list[float], factor: float
) -> None:
    found = ratio([factor * value for value in values], values)
    assert found.low == pytest.approx(factor)
    assert found.high == pytest.approx(factor)


def test_noise_makes_the_interval_wide() -> None:
    steady = ratio([10, 11, 10, 11, 10], [5, 5, 5, 5, 5])
    noisy = ratio([4, 19, 10, 2, 30], [5, 5, 5, 5, 5])
    assert noisy.high - noisy.low > steady.high - steady.low


@pytest.mark.parametrize("pair", [([1.0], [1.0, 2.0]), ([], [])])
def test_series_of_other_rounds_are_refused(pair: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="round"):
        ratio(*pair)


def test_a_geometric_mean_is_zero_where_something_is() -> None:
    assert geometric_mean([2, 8]) == pytest.approx(4)
    assert geometric_mean([2, 0]) == 0


@given(st.text(), st.text(), st.text())
def test_a_common_prefix_is_common_and_the_longest(same: str, one: str, other: str) -> None:
    length = common_prefix(same + one, same + other)
    assert length >= len(same)
    assert (same + one)[:length] == (same + other)[:length]
    assert (same + one)[: length + 1] != (same + other)[: length + 1] or same + one == same + other
