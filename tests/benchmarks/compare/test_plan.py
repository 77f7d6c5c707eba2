"""The order of measurements, and when they end."""

import statistics
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.compare.peers.peer import Peer
from benchmarks.compare.plan import Part, Scenario, another_round, closed, full, in_turns, quick
from benchmarks.compare.tuning import tuned


def test_all_servers_take_turns_in_each_scenario_and_begin_in_turns() -> None:
    scenarios = [closed(1, 8), closed(2, 8)]
    first = [(scenario.name, server) for scenario, server in in_turns(scenarios, "ABC", 0)]
    assert [server for _, server in first] == list("ABCABC")
    assert [name for name, _ in first] == ["1 client"] * 3 + ["2 clients"] * 3
    assert [server for _, server in in_turns(scenarios, "ABC", 4)] == list("BCABCA")


@given(st.lists(st.floats(1, 100), max_size=5), st.floats(0, 500), st.floats(0, 500))
def test_rounds_end_in_time_but_for_the_first(
    rounds: list[float], preparations: float, budget: float
) -> None:
    passed = preparations + sum(rounds)
    if another_round(rounds, passed, budget) and rounds:
        assert passed + max(rounds) <= budget
    assert another_round([], passed, budget)


def test_arrivals_are_poisson_and_the_same_for_all_servers() -> None:
    scenario = Scenario("2 requests/s", Part.ARRIVALS, 4000, 1, 8, rate=2.0)
    starts = scenario.starts(3)
    assert starts == scenario.starts(3) != scenario.starts(4)
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert 0.45 < statistics.fmean(gaps) < 0.55
    assert 0.45 < statistics.pstdev(gaps) < 0.55  # exponential: as the mean


def test_a_closed_loop_may_start_at_once() -> None:
    assert set(closed(4, 8).starts(0)) == {0.0}


def test_each_client_of_a_closed_loop_asks_more_than_once() -> None:
    loops = [each for each in full([], 8) if each.part is Part.CLIENTS]
    assert [loop.clients for loop in loops] == [1, 2, 4, 8, 16]
    assert all(loop.n_prompts >= max(12, 2 * loop.clients) for loop in loops)


def test_quick_has_something_of_every_part() -> None:
    parts = {scenario.part for scenario in full(["chat"], 8)}
    assert {scenario.part for scenario in quick(["chat"], 8)} == parts


def test_names_of_scenarios_are_unique() -> None:
    names = [scenario.name for scenario in full(["chat", "tool calls"], 8)]
    assert len(names) == len(set(names))


SERVER = Peer("server", "1", ("serve",), ((("-t", "2"), ("-t", "1")), (("-a",), ("-b",), ("-c",))))


def test_the_search_keeps_what_is_best_and_tells_all() -> None:
    speeds = {"-t 2 -a": 5.0, "-t 1 -a": 9.0, "-t 1 -b": 7.0, "-t 1 -c": 9.0}
    best, trials = tuned(SERVER, lambda peer: {1: speeds[" ".join(peer.options)]})
    assert best.options == ("-t", "1", "-a")
    assert {" ".join(trial.options): trial.tokens_per_second[1] for trial in trials} == speeds
    assert best.launch == ("serve", "-t", "1", "-a")


def test_settings_that_do_not_run_are_not_chosen() -> None:
    best, trials = tuned(SERVER, lambda peer: {} if "-b" not in peer.options else {1: 1.0})
    assert best.options == ("-t", "2", "-b")
    assert len(trials) == 4


def test_a_throughput_of_one_client_counts_as_much_as_that_of_many() -> None:
    speeds = {"-a": {1: 10.0, 8: 100.0}, "-b": {1: 30.0, 8: 60.0}, "-c": {1: 1.0, 8: 900.0}}
    best, _ = tuned(SERVER, lambda peer: speeds[peer.options[-1]])
    assert best.options[-1] == "-b"


def test_without_a_choice_nothing_is_tried() -> None:
    best, trials = tuned(SERVER, None)
    assert (best.options, trials) == (("-t", "2", "-a"), ())
    assert tuned(Peer("plain", "1", ("serve",)), _never) == (Peer("plain", "1", ("serve",)), ())


def _never(peer: Peer) -> dict[int, float]:
    raise AssertionError(peer)
