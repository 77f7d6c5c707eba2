"""Tenants share the slots of a scheduler by their weights, and each its own by priority."""

from collections import Counter
from collections.abc import Iterable

import pytest

from medusa.engine.engine import Engine
from medusa.engine.fairness import PATIENCE, Tenant
from medusa.engine.requests import GenerationRequest
from medusa.engine.sequence import Sequence
from medusa.errors import QueueFullError
from tests.medusa.engine.conftest import GREEDY, wait_until
from tests.medusa.engine.scheduling import end, make_scheduler, play, running, sequence

ALICE, BOB = Tenant("alice"), Tenant("bob", weight=3.0)


def requests_of(tenant: Tenant, count: int, **fields: object) -> list[Sequence]:
    """As many as wanted, of ten tokens and five more, no two alike."""
    base = 1000 if tenant is ALICE else 50_000
    prompts = [range(base + 20 * n, base + 20 * n + 10) for n in range(count)]
    return [sequence(p, tenant=tenant, max_tokens=5, **fields) for p in prompts]


def written(sequences: Iterable[Sequence]) -> Counter[str]:
    """Tokens written for each tenant so far."""
    found: Counter[str] = Counter()
    for each in sequences:
        found[each.request.tenant.name] += each.n_generated
    return found


@pytest.mark.parametrize("n_slots", [1, 4])
def test_weights_one_and_three_get_one_and_three_parts(n_slots: int) -> None:
    scheduler = make_scheduler(n_slots, n_cells=10_000)
    everything = [*requests_of(ALICE, 100), *requests_of(BOB, 100)]
    scheduler.add(everything)
    for _ in range(400 // n_slots):
        play(scheduler)
    tokens = written(everything)
    assert tokens["bob"] / tokens["alice"] == pytest.approx(3, rel=0.1)


def test_a_tenant_whose_answers_are_long_gets_fewer_of_them() -> None:
    scheduler = make_scheduler(1, n_cells=10_000)
    brief, verbose = Tenant("brief"), Tenant("verbose")
    short = [sequence([n, 1], tenant=brief, max_tokens=2) for n in range(200)]
    long = [sequence([1000 + n, 2], tenant=verbose, max_tokens=40) for n in range(200)]
    scheduler.add([*long, *short])
    for _ in range(600):
        play(scheduler)
    counter = written([*short, *long])
    n_short, n_long = counter["brief"] / 2, counter["verbose"] / 40
    difference = n_short * (2 + 2 * 2) - n_long * (2 + 2 * 40)  # in virtual tokens
    assert abs(difference) <= 2 + 2 * 40, "more than one request"


def test_a_newcomer_has_the_next_slot_however_many_wait() -> None:
    scheduler = make_scheduler(1, n_cells=10_000)
    crowd = requests_of(ALICE, 50)
    scheduler.add(crowd)
    play(scheduler)
    (newcomer,) = requests_of(BOB, 1)
    scheduler.add([newcomer])
    end(scheduler, crowd[0])
    play(scheduler)
    assert running(scheduler) == [newcomer]


def test_urgent_ones_go_first_and_the_oldest_in_its_turn() -> None:
    scheduler = make_scheduler(1, n_cells=10_000)
    (background,) = requests_of(ALICE, 1, priority=1)
    urgent = [sequence([n, 9], tenant=ALICE, max_tokens=1) for n in range(2 * PATIENCE)]
    scheduler.add([background, *urgent])
    order = []
    for _ in range(PATIENCE + 1):
        play(scheduler)
        order += [each for each in urgent if each.is_complete and each not in order]
    assert order == urgent[:PATIENCE]
    assert running(scheduler) == [background]


def test_who_steps_back_goes_on_before_other_tenants() -> None:
    scheduler = make_scheduler(2, n_cells=330)
    first = sequence(range(100), tenant=ALICE)
    second = sequence(range(1000, 1100), tenant=ALICE)
    scheduler.add([first, second])
    for _ in range(66):
        play(scheduler)
    assert scheduler.waiting == [second]
    other = sequence(range(2000, 2100), tenant=BOB)
    scheduler.add([other])
    end(scheduler, first)
    play(scheduler)
    assert second in running(scheduler)


def test_a_large_request_gets_its_room_though_others_are_small_and_many() -> None:
    """It does not fit beside what runs; the small ones of the other tenant may not pass forever."""
    scheduler = make_scheduler(2, n_cells=1000)
    scheduler.add([sequence(range(500), tenant=BOB, max_tokens=400)])
    play(scheduler)
    large = sequence(range(2000, 2600), tenant=ALICE)
    small = [sequence([5000 + n, 1], tenant=BOB, max_tokens=3) for n in range(400)]
    scheduler.add([large, *small])
    for _ in range(1000):
        play(scheduler)
        if large in running(scheduler):
            break
    assert large in running(scheduler)
    assert len(scheduler.waiting) > 300


def test_a_full_queue_of_one_tenant_is_not_anothers(engine: Engine) -> None:
    """Three slots, and two of each tenant may wait."""

    def request(tenant: Tenant) -> GenerationRequest:
        return GenerationRequest((1, 2, 3), GREEDY, ignore_eos=True, tenant=tenant)

    def submit(tenant: Tenant, count: int) -> list[str]:
        requests = [request(tenant) for _ in range(count)]
        engine.submit(requests, lambda _event: None)
        return [each.id for each in requests]

    ids = submit(ALICE, 5)
    wait_until(lambda: engine.n_running == 3)
    with pytest.raises(QueueFullError, match="2 requests are waiting and 3 are running"):
        submit(ALICE, 1)
    ids += submit(BOB, 2)
    engine.cancel(ids)
