"""The simulator keeps the laws that any queueing system keeps."""

import random
from dataclasses import dataclass

import pytest

from benchmarks.simulator.clients import Habits
from benchmarks.simulator.devices import A100, CPU, RTX_4090, Device
from benchmarks.simulator.guesses import ACCURACY, RIGHT, write
from benchmarks.simulator.measures import Measures, jain
from benchmarks.simulator.replica import Replica
from benchmarks.simulator.scenarios import divisions, simulate, talkers
from benchmarks.simulator.simulation import Outcome, Simulation
from medusa.engine.fairness import Tenant
from medusa.engine.routing import PrefixAffinity, RandomChoice, RoundRobin, Router
from medusa.speculation.tree import TokenTree


@dataclass(frozen=True)
class Line:
    """A cost that can be computed by hand."""

    def seconds(self, rows: int, cached: int) -> float:
        """See Cost."""
        return 0.01 + 0.001 * rows + 1e-6 * cached


SIMPLE = Device("simple", "", Line(), n_slots=4, n_cells=100_000, n_batch=10_000)
CRAMPED = Device("cramped", "", Line(), n_slots=4, n_cells=1_500, n_batch=256)


def run(device: Device, count: int, *, speculate: bool = True) -> tuple[Outcome, Replica]:
    replica = Replica(device, random.Random(1), speculate=speculate)
    return Simulation([replica], RoundRobin(), talkers(count, 0), 5 * count).run(), replica


@pytest.mark.parametrize("device", [SIMPLE, CRAMPED, CPU], ids=lambda device: device.name)
def test_littles_law(device: Device) -> None:
    """L = lambda W: the mean number in the system is the rate of arrivals times the mean stay."""
    outcome, _ = run(device, 20)
    stays = [s.ended - s.arrived for s in outcome.served if s.ended is not None]
    assert len(stays) == len(outcome.served) == 100
    mean_number = outcome.request_seconds / outcome.seconds
    arrivals = len(stays) / outcome.seconds
    assert mean_number == pytest.approx(arrivals * sum(stays) / len(stays))


@pytest.mark.parametrize("speculate", [False, True])
def test_tokens_are_conserved(speculate: bool) -> None:
    """What is asked for is written, and what is read was computed or cached."""
    outcome, replica = run(SIMPLE, 20, speculate=speculate)
    asked = sum(each.asked for each in outcome.served)
    assert asked == sum(each.written for each in outcome.served)
    assert asked == sum(tokens.total() for _, tokens in outcome.written)
    missing = [each.n_prompt - 1 - each.cached for each in outcome.served]  # the last is a row
    assert replica.prefilled == sum(missing)
    assert replica.rows == asked if not speculate else replica.rows >= asked
    assert replica.load == 0


def test_in_a_cramped_cache_everybody_is_answered_and_some_is_read_twice() -> None:
    outcome, replica = run(CRAMPED, 20)
    assert all(each.written == each.asked for each in outcome.served)
    assert replica.prefilled >= sum(each.n_prompt - 1 - each.cached for each in outcome.served)


def test_one_client_equals_the_closed_form() -> None:
    outcome, _ = run(SIMPLE, 1, speculate=False)
    cost = Line()
    for each in outcome.served:
        assert each.ended is not None
        before = each.n_prompt - 1
        prefill = cost.seconds(before - each.cached, each.cached)
        decodes = sum(cost.seconds(1, before + n) for n in range(each.asked))
        assert each.ended - each.arrived == pytest.approx(prefill + decodes)
        assert each.first is not None
        assert each.first - each.arrived == pytest.approx(prefill + cost.seconds(1, before))


def test_the_same_dice_give_the_same_figures() -> None:
    first, second = (run(CPU, 20)[0] for _ in range(2))
    assert first.written == second.written
    assert [(s.arrived, s.first, s.ended) for s in first.served] == [
        (s.arrived, s.first, s.ended) for s in second.served
    ]


def test_guesses_are_right_as_often_as_they_claim() -> None:
    dice = random.Random(0)
    chain = TokenTree((0, RIGHT, RIGHT, RIGHT), (-1, 0, 1, 2))
    accepted = [len(write(chain, dice, 100)[1]) - 1 for _ in range(20_000)]
    expected = ACCURACY[0] * (1 + ACCURACY[1] * (1 + ACCURACY[2]))
    assert sum(accepted) / len(accepted) == pytest.approx(expected, rel=0.03)


def test_guesses_make_one_client_faster_and_cost_a_crowd_little() -> None:
    restless = Habits(pause=0.0)
    for device, count, least in ((RTX_4090, 1, 1.3), (CPU, 100, 0.95)):
        guessing, plain = (
            Measures.of(simulate(device, talkers(count, 0, restless), seed=0, speculate=speculate))
            for speculate in (True, False)
        )
        assert guessing.tokens_per_second >= least * plain.tokens_per_second


def test_the_longest_prefix_saves_most_of_what_random_routing_wastes() -> None:
    """Of a workload of many turns, at least 80 % of the prompts that would be read again."""
    n_replicas, habits = 4, Habits(turns=8)

    def computed(replicas: int, router: Router) -> int:
        outcome = simulate(
            A100, talkers(60, 0, habits), seed=0, replicas=replicas, router=router, requests_each=8
        )
        return sum(each.n_prompt - each.cached for each in outcome.served)

    least = computed(1, RoundRobin())
    wasted = computed(n_replicas, RandomChoice(0)) - least
    spared = PrefixAffinity(A100.n_cells)
    assert wasted > least / 2
    assert computed(n_replicas, spared) - least <= 0.2 * wasted


def test_fair_shares_follow_weights_and_one_queue_follows_numbers() -> None:
    groups = {Tenant("many"): 250, Tenant("few"): 80, Tenant("heavy", weight=2.0): 80}
    one_queue, fair = divisions(0, groups)
    assert one_queue.jain < 0.75
    assert fair.jain > 0.95


def test_jains_index_is_between_one_and_one_nth() -> None:
    assert jain([5, 5, 5]) == 1
    assert jain([5, 0, 0]) == pytest.approx(1 / 3)
