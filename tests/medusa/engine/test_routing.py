"""Requests go where most of their prompt is, and no replica gets much more than others."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from medusa.engine.routing import BLOCK, PrefixAffinity, RandomChoice, RoundRobin

IDLE = {0: 0, 1: 0, 2: 0, 3: 0}


def loads(*each: int) -> dict[int, int]:
    return dict(enumerate(each))


def text(number: int, n_blocks: int = 4) -> list[int]:
    return [1000 * number + n for n in range(n_blocks * BLOCK)]


def test_the_next_turn_goes_where_the_last_one_was() -> None:
    router = PrefixAffinity(held_tokens=10_000)
    first = [router.choose(text(n), loads(n > 0, n > 1, n > 2, 0)) for n in range(4)]
    assert sorted(first) == [0, 1, 2, 3]
    assert [router.choose(text(n) + [7] * 50, IDLE) for n in (2, 0, 3, 1)] == [
        first[n] for n in (2, 0, 3, 1)
    ]


def test_of_two_that_hold_a_part_the_longer_part_decides() -> None:
    router = PrefixAffinity(held_tokens=10_000)
    assert router.choose(text(1), loads(0, 9)) == 0
    assert router.choose(text(1) + text(2), loads(9, 0)) == 1
    assert router.choose(text(1) + text(2) + [5], loads(0, 0)) == 1
    assert router.choose(text(1) + text(3), loads(1, 0)) == 1, "as much is held: the less busy one"


def test_what_nobody_holds_goes_to_the_least_busy() -> None:
    router = PrefixAffinity(held_tokens=10_000)
    assert router.choose(text(1), loads(3, 2, 0, 1)) == 2
    assert router.choose([1, 2, 3], loads(3, 2, 1, 0)) == 3, "less than a block"


def test_a_beginning_that_all_share_spreads() -> None:
    router = PrefixAffinity(held_tokens=10_000)
    running = dict(IDLE)
    for n in range(100):
        running[router.choose(text(1) + text(n + 2), running)] += 1
    assert max(running.values()) <= 1.25 * 25 + 3


def test_what_was_sent_long_ago_is_forgotten() -> None:
    router = PrefixAffinity(held_tokens=8 * BLOCK)
    assert router.choose(text(1), loads(0, 1)) == 0
    for n in (2, 3):
        assert router.choose(text(n), loads(0, 9)) == 0
    assert router.choose(text(1), loads(1, 0)) == 1


def test_a_replica_that_came_back_holds_nothing() -> None:
    router = PrefixAffinity(held_tokens=10_000)
    assert router.choose(text(1), {"a": 0, "b": 1}) == "a"
    assert router.choose(text(2), {"b": 0}) == "b"
    assert router.choose(text(1), {"a": 1, "b": 0}) == "b"


@given(
    prompts=st.lists(st.integers(0, 5), min_size=1, max_size=80),
    n_replicas=st.integers(1, 6),
    data=st.data(),
)
def test_nobody_gets_more_than_the_bound(
    prompts: list[int], n_replicas: int, data: st.DataObject
) -> None:
    router = PrefixAffinity(held_tokens=1000, imbalance=1.25, spare=2)
    running = dict.fromkeys(range(n_replicas), 0)
    for number in prompts:
        chosen = router.choose(text(number), running)
        running[chosen] += 1
        assert running[chosen] <= 1.25 * sum(running.values()) / n_replicas + 3
        ended = data.draw(st.integers(0, n_replicas - 1))
        running[ended] = max(0, running[ended] - 1)


def test_the_others_look_at_nothing() -> None:
    in_turn, dice = RoundRobin(), RandomChoice(seed=1)
    assert [in_turn.choose([], IDLE) for _ in range(5)] == [0, 1, 2, 3, 0]
    found = Counter(dice.choose([], IDLE) for _ in range(400))
    assert min(found.values()) > 60
    again = RandomChoice(seed=1)
    assert Counter(again.choose([], IDLE) for _ in range(400)) == found
