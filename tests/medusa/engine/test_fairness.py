"""Who goes next: shares of tokens by weight, no credit for the idle, priorities, nobody starves."""

import random
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.engine.fairness import EVERYBODY, OUTPUT_PRICE, PATIENCE, FairQueue, Tenant

ALICE, BOB, CAROL = Tenant("alice"), Tenant("bob"), Tenant("carol")


class Job:
    """Something that waits; as long as it is told."""

    def __init__(self, tenant: Tenant, read: int = 10, written: int = 10, priority: int = 0):
        self.tenant = tenant
        self.read, self.written = read, written
        self.priority = priority

    @property
    def price(self) -> float:
        return self.read + OUTPUT_PRICE * self.written


def push(queue: FairQueue[Job], *jobs: Job) -> None:
    for job in jobs:
        queue.push(job, job.tenant, job.priority)


def serve(queue: FairQueue[Job]) -> Job:
    """Take what is next, and have all of it computed at once."""
    job = next(queue.in_turn())
    queue.take(job, read=job.read)
    queue.charge(job.tenant, written=job.written)
    return job


def served_tokens(queue: FairQueue[Job], steps: int) -> Mapping[Tenant, float]:
    """What each tenant gets in so many steps in which all of them always have more."""
    found: Counter[Tenant] = Counter()
    for _ in range(steps):
        job = serve(queue)
        found[job.tenant] += job.price  # type: ignore[assignment]
        push(queue, Job(job.tenant, job.read, job.written))
    return found


def test_one_tenant_is_served_in_order_of_arrival() -> None:
    queue, jobs = FairQueue[Job](), [Job(EVERYBODY, read=n) for n in (5, 1, 9, 3)]
    push(queue, *jobs)
    assert list(queue.in_turn()) == jobs
    assert [serve(queue) for _ in jobs] == jobs
    assert not len(queue)


def test_two_tenants_take_turns_however_many_one_of_them_sends() -> None:
    queue = FairQueue[Job]()
    push(queue, *[Job(ALICE) for _ in range(50)], *[Job(BOB) for _ in range(5)])
    assert Counter(serve(queue).tenant for _ in range(10)) == {ALICE: 5, BOB: 5}


def test_shares_are_of_tokens_not_of_requests() -> None:
    queue = FairQueue[Job]()
    for _ in range(2):  # so that something waits while another one is served
        push(queue, Job(ALICE, read=300, written=100), Job(BOB, read=30, written=10))
    served = [serve_again(queue).tenant for _ in range(110)]
    assert served.count(BOB) == pytest.approx(100, abs=2)


def serve_again(queue: FairQueue[Job]) -> Job:
    job = serve(queue)
    push(queue, Job(job.tenant, job.read, job.written))
    return job


@given(
    tenants=st.lists(
        st.tuples(st.floats(0.1, 10), st.integers(1, 500), st.integers(1, 500)),
        min_size=2,
        max_size=5,
    )
)
def test_shares_differ_by_no_more_than_one_request(tenants: list[tuple[float, int, int]]) -> None:
    """The paper's theorem 4.4, with one request at a time."""
    queue = FairQueue[Job]()
    jobs = [
        Job(Tenant(str(number), weight), read, written)
        for number, (weight, read, written) in enumerate(tenants)
    ]
    for _ in range(2):  # so that something waits while another one is served
        push(queue, *[Job(each.tenant, each.read, each.written) for each in jobs])
    got = served_tokens(queue, 300)
    spent = [got.get(job.tenant, 0.0) / job.tenant.weight for job in jobs]
    assert max(spent) - min(spent) <= max(job.price / job.tenant.weight for job in jobs) * 1.001


def test_weights_one_and_three_get_one_and_three_parts() -> None:
    queue = FairQueue[Job]()
    light, heavy = Tenant("light", 1.0), Tenant("heavy", 3.0)
    push(queue, *[Job(light) for _ in range(40)], *[Job(heavy) for _ in range(40)])
    assert Counter(serve(queue).tenant for _ in range(40)) == {light: 10, heavy: 30}


def test_who_was_idle_has_saved_nothing() -> None:
    queue = FairQueue[Job]()
    push(queue, Job(BOB))
    serve(queue)
    push(queue, *[Job(ALICE) for _ in range(120)])
    for _ in range(100):
        assert serve(queue).tenant is ALICE
    push(queue, *[Job(BOB) for _ in range(20)])
    assert Counter(serve(queue).tenant for _ in range(20)) == {ALICE: 10, BOB: 10}


def test_nor_while_nothing_waited() -> None:
    """The queue is empty now and then; the counters go on from whoever left it last."""
    queue = FairQueue[Job]()
    for _ in range(100):
        push(queue, Job(ALICE))
        serve(queue)
    push(queue, *[Job(tenant) for _ in range(10) for tenant in (ALICE, BOB)])
    assert Counter(serve(queue).tenant for _ in range(10)) == {ALICE: 5, BOB: 5}


def test_who_is_new_owes_nothing_either() -> None:
    queue = FairQueue[Job]()
    push(queue, *[Job(ALICE) for _ in range(50)])
    for _ in range(20):
        serve(queue)
    push(queue, Job(CAROL))
    assert CAROL in [serve(queue).tenant for _ in range(2)]


def test_the_lowest_priority_number_goes_first_among_a_tenants_own() -> None:
    queue = FairQueue[Job]()
    late, usual, urgent, first = (Job(ALICE, priority=p) for p in (5, 0, -1, -1))
    push(queue, late, usual, urgent, first)
    assert list(queue.in_turn()) == [urgent, first, usual, late]
    bobs = Job(BOB, priority=100)
    push(queue, bobs)
    assert bobs in [serve(queue) for _ in range(2)], "one tenant's haste costs another nothing"


def test_who_waits_longest_comes_to_its_turn_whatever_is_more_urgent() -> None:
    queue = FairQueue[Job]()
    background = [Job(ALICE, priority=9) for _ in range(3)]
    push(queue, *background)
    order = []
    for _ in range(3 * (PATIENCE + 1)):
        push(queue, Job(ALICE))
        order.append(serve(queue))
    places = [order.index(job) for job in background]
    assert places == [PATIENCE, 2 * PATIENCE + 1, 3 * PATIENCE + 2], "one at a time"


def test_what_was_put_back_goes_first_and_is_not_paid_twice() -> None:
    queue = FairQueue[Job]()
    first, second = Job(ALICE), Job(ALICE)
    push(queue, first, second, Job(BOB))
    for job in (first, second):
        queue.take(job, read=10)
    queue.put_back(second, ALICE)
    queue.put_back(first, ALICE)
    push(queue, Job(ALICE))
    assert [queue.waiting_of(tenant) for tenant in (ALICE, BOB, CAROL)] == [3, 1, 0]
    assert [serve_for_nothing(queue) for _ in range(2)] == [first, second]
    assert [serve(queue).tenant, serve(queue).tenant] == [BOB, ALICE], "else Bob were ahead by more"


def serve_for_nothing(queue: FairQueue[Job]) -> Job:
    job = next(queue.in_turn())
    queue.take(job, read=1_000_000)
    return job


def test_removed_ones_cost_nobody_anything() -> None:
    queue = FairQueue[Job]()
    gone, stays = Job(ALICE, priority=-1), Job(ALICE)
    push(queue, gone, stays)
    queue.remove(gone)
    assert list(queue) == list(queue.in_turn()) == [stays]


@given(seed=st.integers(0, 2**32))
def test_whatever_happens_everything_is_given_out_once_and_nobody_is_forgotten(seed: int) -> None:
    dice = random.Random(seed)
    queue, waiting = FairQueue[Job](), set[Job]()
    tenants = [Tenant(str(n), dice.choice([0.5, 1.0, 4.0])) for n in range(dice.randint(1, 4))]
    for _ in range(dice.randint(1, 60)):
        read, written, priority = dice.randint(1, 50), dice.randint(0, 50), dice.randint(0, 3)
        job = Job(dice.choice(tenants), read, written, priority)
        if dice.random() < 0.1:
            queue.put_back(job, job.tenant)
        else:
            push(queue, job)
        waiting.add(job)
        given_out = []
        for each in queue.in_turn():
            given_out.append(each)
            if dice.random() < 0.4:
                queue.take(each, read=each.read)
                waiting.discard(each)
            elif dice.random() < 0.1:
                queue.remove(each)
                waiting.discard(each)
            queue.charge(dice.choice(tenants), written=dice.randint(0, 20))
        assert len(set(given_out)) == len(given_out)
        assert waiting == set(queue) == set(queue.in_turn()) <= set(given_out)
        assert sum(map(queue.waiting_of, tenants)) == len(queue) == len(waiting)
