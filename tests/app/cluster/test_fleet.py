"""Where requests run, as the front's process knows it."""

from app.cluster.fleet import Fleet
from medusa.engine.routing import BLOCK, PrefixAffinity

PROMPT = list(range(4 * BLOCK))


def test_the_next_turn_goes_to_the_same_replica() -> None:
    fleet = Fleet(PrefixAffinity(1000))
    chosen = fleet.choose("1", PROMPT, ["a", "b"])
    fleet.choose("2", [7] * 4 * BLOCK, ["a", "b"])
    assert fleet.of("1") == chosen
    fleet.ended("1")
    assert fleet.of("1") is None
    assert fleet.choose("3", [*PROMPT, 1, 2], ["a", "b"]) == chosen


def test_requests_count_until_they_end() -> None:
    fleet = Fleet(PrefixAffinity(1000))
    first = [fleet.choose(str(n), [n], ["a", "b"]) for n in range(4)]
    assert sorted(first) == ["a", "a", "b", "b"]
    for number, replica in enumerate(first):
        if replica == "a":
            fleet.ended(str(number))
    assert [fleet.choose(f"later {n}", [n], ["a", "b"]) for n in range(2)] == ["a", "a"]


def test_a_request_that_went_elsewhere_counts_there() -> None:
    fleet = Fleet(PrefixAffinity(1000))
    chosen = fleet.choose("1", [1], ["a", "b"])
    other = "b" if chosen == "a" else "a"
    fleet.sent("1", other)
    assert fleet.of("1") == other
    assert fleet.choose("2", [2], ["a", "b"]) == chosen
    fleet.ended("1")
    fleet.sent("1", chosen)
    assert fleet.of("1") is None
