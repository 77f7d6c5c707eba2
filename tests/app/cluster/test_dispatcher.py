"""The front's queue: fair, bounded, and patient with replicas that end."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from app.cluster.dispatcher import AHEAD, Dispatcher
from app.cluster.replicas import ReplicaLostError
from medusa.engine.events import Event, Failed, FailureKind, Finished
from medusa.engine.fairness import EVERYBODY, Tenant
from medusa.engine.requests import GenerationRequest
from medusa.errors import EngineStoppedError, InvalidRequestError, QueueFullError
from tests.app.cluster.fake_replicas import FakeReplicas, delta, finished

PROMPT = (1, 2, 3)
LOST = ReplicaLostError("it is gone")


@dataclass
class Front:
    """A dispatcher, what it asks, and what its clients see."""

    replicas: FakeReplicas
    dispatcher: Dispatcher
    events: list[Event] = field(default_factory=list)

    def submit(self, *requests: GenerationRequest) -> None:
        self.dispatcher.submit(requests, self.events.append)

    def of(self, request: GenerationRequest) -> list[Event]:
        return [event for event in self.events if event.request_id == request.id]


def run(
    test: Callable[[Front], Awaitable[None]],
    replicas: FakeReplicas,
    *,
    slots: int = 1,
    max_queue: int = 100,
) -> None:
    async def running() -> None:
        loop = asyncio.get_running_loop()
        front = Front(replicas, Dispatcher(replicas, slots, max_queue, loop))
        await test(front)
        await front.dispatcher.close()

    asyncio.run(running())


async def settled() -> None:
    """Let all that can happen now happen."""
    for _ in range(50):
        await asyncio.sleep(0)


def request(tenant: Tenant = EVERYBODY, n_prompt: int = 3, priority: int = 0) -> GenerationRequest:
    return GenerationRequest(tuple(range(n_prompt)), tenant=tenant, priority=priority)


def test_events_come_in_their_order() -> None:
    async def test(front: Front) -> None:
        first, second = request(), request()
        front.submit(first, second)
        await settled()
        assert front.of(first) == [delta(first), finished(first)]
        assert front.of(second) == [delta(second), finished(second)]
        assert (front.dispatcher.n_running, front.dispatcher.n_waiting) == (0, 0)

    run(test, FakeReplicas("a"))


def test_no_more_is_sent_than_replicas_can_use_soon() -> None:
    async def test(front: Front) -> None:
        front.submit(*(request() for _ in range(20)))
        await settled()
        assert len(front.replicas.started) == AHEAD * 2 * 3
        assert (front.dispatcher.n_running, front.dispatcher.n_waiting) == (6, 14)
        front.replicas.names = ("a", "b", "c", "d")
        front.dispatcher.dispatch()
        await settled()
        assert len(front.replicas.started) == AHEAD * 2 * 4
        front.replicas.go_on.set()
        await settled()
        assert sum(isinstance(event, Finished) for event in front.events) == 20

    run(test, FakeReplicas("a", "b", "c", holds=True), slots=2)


def test_while_there_is_no_replica_requests_wait() -> None:
    async def test(front: Front) -> None:
        asked = request()
        front.submit(asked)
        await settled()
        assert not front.events
        front.replicas.names = ("a",)
        front.dispatcher.dispatch()
        await settled()
        assert front.of(asked)[-1] == finished(asked)

    run(test, FakeReplicas())


def test_shares_follow_weights_whoever_sends_more() -> None:
    light, heavy = Tenant("light"), Tenant("heavy", weight=3.0)

    async def test(front: Front) -> None:
        front.submit(request(), request())  # they take the replica
        await settled()
        front.submit(*(request(light) for _ in range(60)))
        front.submit(*(request(heavy) for _ in range(60)))
        front.replicas.go_on.set()
        await settled()
        await settled()
        order = Counter(each.tenant.name for each in front.replicas.started[2:42])
        assert abs(order["heavy"] - 30) <= 2, order

    run(test, FakeReplicas("a", holds=True))


def test_what_was_cached_costs_nothing() -> None:
    """Two keys ask as much; the prompts of one are cached, so it gets more of its answers."""
    known, new = Tenant("known"), Tenant("new")

    async def test(front: Front) -> None:
        front.replicas.script = lambda each: [
            finished(each, cached=95 if each.tenant == known else 0)
        ]
        front.submit(request(), request())
        await settled()
        front.submit(*(request(known, 100) for _ in range(40)))
        front.submit(*(request(new, 100) for _ in range(40)))
        front.replicas.go_on.set()
        await settled()
        await settled()
        order = Counter(each.tenant.name for each in front.replicas.started[2:32])
        assert order["known"] > 4 * order["new"], order

    run(test, FakeReplicas("a", holds=True))


def test_the_lowest_priority_number_is_first() -> None:
    async def test(front: Front) -> None:
        front.submit(request(), request())
        await settled()
        asked = [request(priority=number) for number in (2, 0, 1)]
        front.submit(*asked)
        front.replicas.go_on.set()
        await settled()
        assert [each.priority for each in front.replicas.started[2:]] == [0, 1, 2]

    run(test, FakeReplicas("a", holds=True))


def test_a_full_queue_of_one_key_does_not_close_the_door_to_others() -> None:
    one, other = Tenant("one"), Tenant("other")

    async def test(front: Front) -> None:
        front.submit(*(request(one) for _ in range(2 + 5)))
        await settled()
        with pytest.raises(QueueFullError):
            front.submit(request(one))
        front.submit(request(other))
        with pytest.raises(InvalidRequestError, match="at most 7"):
            front.submit(*(request(other) for _ in range(8)))

    run(test, FakeReplicas("a", holds=True), max_queue=5)


def test_a_cancelled_request_is_stopped_and_heard_of_no_more() -> None:
    async def test(front: Front) -> None:
        sent, waiting = [request(), request()], request()
        front.submit(*sent, waiting)
        await settled()
        front.dispatcher.cancel([sent[0].id, waiting.id, "unknown"])
        await settled()
        assert front.replicas.stopped == [sent[0].id]
        front.replicas.go_on.set()
        await settled()
        assert [each.id for each in front.replicas.started] == [each.id for each in sent]
        assert {event.request_id for event in front.events} == {sent[1].id}
        assert (front.dispatcher.n_running, front.dispatcher.n_waiting) == (0, 0)

    run(test, FakeReplicas("a", holds=True))


def test_a_request_that_has_ended_counts_before_its_replica_has_let_go_of_it() -> None:
    async def test(front: Front) -> None:
        only = request()
        front.submit(only)
        await settled()
        assert (front.dispatcher.n_running, front.dispatcher.n_waiting) == (1, 0)
        front.dispatcher.cancel([only.id])
        assert (front.dispatcher.n_running, front.dispatcher.n_waiting) == (0, 0)

    run(test, FakeReplicas("a", holds=True))


def test_what_nobody_has_seen_of_is_run_again_elsewhere() -> None:
    async def test(front: Front) -> None:
        asked = request()
        front.replicas.script = lambda each: (
            [LOST] if len(front.replicas.started) == 1 else [delta(each), finished(each)]
        )
        front.submit(asked)
        await settled()
        assert front.events == [delta(asked), finished(asked)]

    run(test, FakeReplicas("a", "b"))


@pytest.mark.parametrize(
    "end",
    [[LOST], [], [Failed("", FailureKind.STOPPED, "it closes")]],
    ids=["lost", "ends", "stops"],
)
def test_an_answer_that_has_begun_ends_with_an_error(end: list[Event | Exception]) -> None:
    async def test(front: Front) -> None:
        asked = request()
        front.replicas.script = lambda each: [delta(each), *end]
        front.submit(asked)
        await settled()
        first, last = front.events
        assert first == delta(asked)
        assert isinstance(last, Failed)
        assert last.kind is FailureKind.STOPPED
        assert "replica" in last.message
        assert len(front.replicas.started) == 1

    run(test, FakeReplicas("a"))


def test_a_request_that_ends_replicas_ends_few() -> None:
    async def test(front: Front) -> None:
        asked = request()
        front.replicas.script = lambda _each: [LOST]
        front.submit(asked)
        await settled()
        assert len(front.replicas.started) == 2
        (failed,) = front.events
        assert isinstance(failed, Failed)

    run(test, FakeReplicas("a"))


def test_an_unexpected_error_ends_its_own_request(caplog: pytest.LogCaptureFixture) -> None:
    async def test(front: Front) -> None:
        wrong, right = request(n_prompt=1), request()
        front.replicas.script = lambda each: (
            [ZeroDivisionError("no")] if each.id == wrong.id else [finished(each)]
        )
        front.submit(wrong, right)
        await settled()
        (failed,) = front.of(wrong)
        assert isinstance(failed, Failed)
        assert failed.kind is FailureKind.INTERNAL
        assert front.of(right) == [finished(right)]

    run(test, FakeReplicas("a"))
    assert "ZeroDivisionError" in caplog.text


def test_slow_readers_do_not_keep_others_from_replicas() -> None:
    async def test(front: Front) -> None:
        slow = [request(), request()]
        front.submit(*slow)
        await settled()
        others = [request(), request()]
        front.submit(*others)
        await settled()
        assert len(front.replicas.started) == 2
        front.dispatcher.set_paused([each.id for each in slow], True)
        await settled()
        assert sorted(front.replicas.paused) == sorted((each.id, True) for each in slow)
        assert front.replicas.started[2:] == others

    run(test, FakeReplicas("a", holds=True))


def test_closing_fails_what_is_unfinished() -> None:
    async def test(front: Front) -> None:
        asked = [request() for _ in range(4)]
        front.submit(*asked)
        await settled()
        await front.dispatcher.close()
        assert [event.request_id for event in front.events] == [each.id for each in asked]
        assert {event.kind for event in front.events if isinstance(event, Failed)} == {
            FailureKind.STOPPED
        }
        assert len(front.replicas.stopped) == 2
        with pytest.raises(EngineStoppedError):
            front.submit(request())

    run(test, FakeReplicas("a", holds=True))
