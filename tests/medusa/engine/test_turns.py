"""Requests with different adapters take turns: nobody starves, and adapters seldom change."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from medusa.engine.turns import TURN_STEPS, Turns
from medusa.llama.adapters import AdapterSet, Applied
from tests.medusa.engine.scheduling import POET, make_scheduler, play, running, sequence

COOK = (Applied(1, 0.5),)

sets = st.integers(0, 5).map(lambda number: (Applied(number, 1.0),) if number else ())
steps = st.lists(st.tuples(st.lists(sets, min_size=1, max_size=6), st.booleans()), max_size=80)


@given(history=steps, forever=sets)
def test_every_set_has_its_turn_after_one_of_each_other(
    history: list[tuple[list[AdapterSet], bool]], forever: AdapterSet
) -> None:
    turns, waited, before = Turns(), 0, 0
    for others, prefilled in history:
        turns = turns.next([*others, forever])
        if turns.current == forever:
            waited = 0
        else:
            before = turns.queue.index(forever) if not waited else before
            waited += 1
            assert waited <= before * TURN_STEPS
        turns = turns.used(prefilled=prefilled)


@given(history=steps)
def test_the_turn_is_one_of_who_runs_and_each_set_queues_once(
    history: list[tuple[list[AdapterSet], bool]],
) -> None:
    turns = Turns()
    for wanted, prefilled in history:
        turns = turns.next(wanted)
        assert set(turns.queue) == set(wanted)
        assert len(turns.queue) == len(set(wanted))
        turns = turns.used(prefilled=prefilled)


@given(wanted=st.lists(sets, min_size=1, max_size=6, unique=True), n_steps=st.integers(1, 100))
def test_adapters_change_once_a_turn(wanted: list[AdapterSet], n_steps: int) -> None:
    turns, seen = Turns(), []
    for _ in range(n_steps):
        turns = turns.next(wanted)
        seen.append(turns.current)
        turns = turns.used(prefilled=False)
    changes = sum(one != other for one, other in pairwise(seen))
    assert changes <= (n_steps - 1) // TURN_STEPS
    if len(wanted) == 1:
        assert changes == 0


def test_a_step_with_a_prompt_is_a_turn() -> None:
    turns = Turns().next([(), POET]).used(prefilled=True)
    assert turns.next([(), POET]).current == POET


def test_decodes_of_three_sets_alternate() -> None:
    scheduler = make_scheduler(n_slots=4, n_cells=10_000)
    scheduler.add(sequence([1], adapters=adapters) for adapters in ((), POET, COOK, POET))
    plans = [play(scheduler) for _ in range(3 * TURN_STEPS)]
    assert [plan.adapters for plan in plans] == [
        *[()] * TURN_STEPS, *[POET] * TURN_STEPS, *[COOK] * TURN_STEPS
    ]  # fmt: skip
    assert [len(plan.trees) for plan in plans[::TURN_STEPS]] == [1, 2, 1]
    assert [one.n_generated for one in running(scheduler)] == [TURN_STEPS] * 4


def test_a_prompt_with_adapters_does_not_hold_up_others_for_longer_than_one_without() -> None:
    scheduler = make_scheduler(n_slots=2, n_cells=100_000)
    decoding = sequence([1])
    scheduler.add([decoding])
    play(scheduler)
    scheduler.add([sequence(range(5000), adapters=POET)])
    plans = [play(scheduler) for _ in range(2 * TURN_STEPS)]
    pieces = [plan.n_prefilled for plan in plans if plan.adapters == POET]
    assert pieces
    assert max(pieces) < 1000, "all of it would go into one step if nobody decoded"
    assert decoding.n_generated >= TURN_STEPS
