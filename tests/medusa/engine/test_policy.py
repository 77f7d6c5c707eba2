from hypothesis import given
from hypothesis import strategies as st

from medusa.engine.policy import share_prefill

missing_lists = st.lists(st.integers(1, 500), max_size=8)


def test_a_prompt_alone_gets_the_whole_budget() -> None:
    assert share_prefill([500], 62) == [62]


def test_a_short_prompt_behind_a_long_one_is_prefilled_within_one_piece() -> None:
    assert share_prefill([8000, 20], 62) == [42, 20]


def test_a_long_prompt_keeps_half_whatever_comes_after_it() -> None:
    assert share_prefill([8000, *[20] * 10], 60)[0] >= 30


@given(missing=missing_lists, budget=st.integers(0, 1000))
def test_shares_spend_the_budget_where_there_is_need(missing: list[int], budget: int) -> None:
    shares = share_prefill(missing, budget)
    assert len(shares) == len(missing)
    assert all(0 <= share <= need for share, need in zip(shares, missing, strict=True))
    assert sum(shares) == min(budget, sum(missing))


@given(missing=missing_lists.filter(bool), budget=st.integers(1, 1000))
def test_the_oldest_always_gets_on(missing: list[int], budget: int) -> None:
    assert share_prefill(missing, budget)[0] >= min(missing[0], (budget + 1) // 2)
