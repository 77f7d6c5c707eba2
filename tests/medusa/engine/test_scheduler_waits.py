"""Who is paused, and who decodes no more than others can."""

from medusa.engine.kv_labels import StateLabels
from medusa.engine.memory import MemoryRules
from medusa.engine.pacer import PrefillPacer
from medusa.engine.policy import MAX_PASSES
from medusa.engine.scheduler import Scheduler
from medusa.engine.slot import Slot
from medusa.speculation.tree import TokenTree
from tests.medusa.engine.scheduling import (
    make_scheduler,
    play,
    running,
    sequence,
)
from tests.medusa.engine.test_kv_labels import FakeCache


def test_states_with_snapshots_are_decoded_in_chains_of_equal_length() -> None:
    slots = [Slot(StateLabels(FakeCache(), index, rollback=3)) for index in range(3)]
    rules = MemoryRules(1, 1000, can_truncate=False, rollback=3)
    scheduler = Scheduler(slots, rules, PrefillPacer(1.0, largest=10_000))
    scheduler.add([sequence([1, 2, 3]), sequence([4, 5, 6])])
    play(scheduler)
    chain = TokenTree((7, 8, 9, 10), (-1, 0, 1, 2))
    slots[0].draft, slots[1].draft = chain, chain.first(2)
    assert [len(candidates.tree) for candidates in scheduler.schedule().trees] == [2, 2]
    scheduler.add([sequence([1, 2, 3], prompt_logprobs=0)])
    slots[0].draft = slots[1].draft = chain
    assert [len(candidates.tree) for candidates in scheduler.schedule().trees] == [1, 1, 1]


def test_a_paused_sequence_leaves_its_slot_to_others_and_goes_on_where_it_was() -> None:
    scheduler = make_scheduler(n_slots=1, n_cells=10_000)
    slow, other = sequence(range(100), max_tokens=50), sequence(range(500, 600), max_tokens=1)
    scheduler.add([slow, other])
    play(scheduler)
    slow.paused = True
    play(scheduler)
    assert running(scheduler) == []  # the other has had its one token
    assert scheduler.waiting == [slow]
    assert not scheduler.has_work
    slow.paused = False
    assert scheduler.has_work
    play(scheduler)
    assert running(scheduler) == [slow]
    assert slow.n_generated == 2


def test_a_paused_sequence_keeps_its_cells_as_long_as_nobody_needs_them() -> None:
    scheduler = make_scheduler(n_slots=2, n_cells=10_000)
    slow = sequence(range(100), max_tokens=50)
    scheduler.add([slow])
    play(scheduler)
    slow.paused = True
    play(scheduler)
    slow.paused = False
    assert play(scheduler).prefill == ()
    assert slow.n_generated == 2


def test_what_is_paused_does_not_count_as_passed_by() -> None:
    scheduler = make_scheduler(n_slots=1, n_cells=10_000)
    slow = sequence([1, 2])
    slow.paused = True
    others = [sequence([n, n], max_tokens=1) for n in range(2 * MAX_PASSES)]
    scheduler.add([slow, *others])
    while scheduler.has_work:
        play(scheduler)
    assert all(other.n_generated == 1 for other in others)


def test_a_cancelled_sequence_goes_even_if_it_is_paused() -> None:
    scheduler = make_scheduler(n_slots=1, n_cells=10_000)
    slow = sequence([1, 2])
    slow.paused = True
    scheduler.add([slow])
    play(scheduler)
    assert not scheduler.has_work
    slow.cancel()
    assert scheduler.has_work
    play(scheduler)
    assert scheduler.waiting == []
