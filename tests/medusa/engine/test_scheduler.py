from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.engine.kv_labels import SlotLabels
from medusa.engine.requests import GenerationRequest
from medusa.engine.scheduler import HEADROOM, PrefillPacer, Scheduler, common_prefix
from medusa.engine.sequence import Generation
from medusa.engine.slot import Slot
from medusa.speculation.tree import TokenTree
from tests.medusa.engine.test_kv_labels import FakeCache


class FakeModel:
    pieces = [b"x"] * 1000
    eog_tokens: frozenset[int] = frozenset()
    control_tokens: frozenset[int] = frozenset()


def generation(tokens: Sequence[int], **fields: object) -> Generation:
    request = GenerationRequest(prompt=tuple(tokens), **fields)  # type: ignore[arg-type]
    return Generation(request, FakeModel(), lambda _event: None, 10_000)  # type: ignore[arg-type]


def scheduler(n_slots: int, n_cells: int) -> Scheduler:
    cache = FakeCache()
    return Scheduler([Slot(SlotLabels(cache, index, 1)) for index in range(n_slots)], n_cells)


def prefill_all(scheduler: Scheduler) -> None:
    for chunk in scheduler.plan_prefill(10_000):
        chunk.slot.prefilled(chunk.tokens)
    for slot in scheduler.prefilling:
        slot.plan(TokenTree.root_only(slot.generation.tokens[-1]))


def run_to_end(scheduler: Scheduler, wanted: Generation) -> Slot:
    """Admit, prefill and finish a request that is next in line."""
    scheduler.waiting.append(wanted)
    scheduler.admit()
    (slot,) = [s for s in scheduler.running if s.generation is wanted]
    prefill_all(scheduler)
    scheduler.finish(slot)
    return slot


@given(a=st.lists(st.integers(0, 2)), b=st.lists(st.integers(0, 2)))
def test_common_prefix(a: list[int], b: list[int]) -> None:
    length = common_prefix(a, b)
    assert a[:length] == b[:length]
    assert length in (len(a), len(b)) or a[length] != b[length]


def test_requests_are_admitted_in_order_of_arrival() -> None:
    plan = scheduler(n_slots=2, n_cells=10_000)
    first, second, third = (generation([i, i]) for i in range(3))
    plan.waiting.extend([first, second, third])
    plan.admit()
    assert [slot.generation for slot in plan.running] == [first, second]
    plan.finish(plan.running[0])
    plan.admit()
    assert third in [slot.generation for slot in plan.running]


def test_the_next_turn_of_a_chat_reuses_its_slot() -> None:
    plan = scheduler(n_slots=3, n_cells=10_000)
    slot = run_to_end(plan, generation(range(100)))
    run_to_end(plan, generation(range(500, 600)))
    next_turn = generation(range(150))
    plan.waiting.append(next_turn)
    plan.admit()
    assert slot.generation is next_turn
    assert next_turn.cached_tokens == 99
    (chunk,) = plan.plan_prefill(10_000)
    assert list(chunk.tokens) == list(range(99, 149))


def test_a_shared_system_prompt_is_copied_from_a_running_slot() -> None:
    plan = scheduler(n_slots=2, n_cells=10_000)
    plan.waiting.append(generation([*range(50), 900]))
    plan.admit()
    prefill_all(plan)
    other = generation([*range(50), 901, 902])
    plan.waiting.append(other)
    plan.admit()
    assert other.cached_tokens == 50


def test_a_short_common_beginning_does_not_cost_another_chat_its_cache() -> None:
    plan = scheduler(n_slots=2, n_cells=10_000)
    chat = run_to_end(plan, generation(range(200)))
    other = run_to_end(plan, generation([*range(20), 900, 901]))
    assert other is not chat
    assert len(chat.tokens) == 199


def test_identical_prompts_wait_for_the_one_being_prefilled() -> None:
    plan = scheduler(n_slots=2, n_cells=10_000)
    first, second = generation(range(300)), generation(range(300))
    plan.waiting.extend([first, second])
    plan.admit()
    assert [slot.generation for slot in plan.running] == [first]
    prefill_all(plan)
    plan.admit()
    assert second.cached_tokens == 299


def test_a_full_cache_delays_admission() -> None:
    plan = scheduler(n_slots=4, n_cells=400)
    big = generation(range(250))
    plan.waiting.extend([big, generation(range(1000, 1200))])
    plan.admit()
    assert [slot.generation for slot in plan.running] == [big]
    plan.finish(plan.running[0])
    plan.admit()
    assert len(plan.running) == 1
    assert not plan.waiting


def test_cached_tokens_of_idle_slots_give_way_least_recently_used_first() -> None:
    plan = scheduler(n_slots=3, n_cells=400)
    old, new = run_to_end(plan, generation([0] * 100)), run_to_end(plan, generation([1] * 100))
    plan.waiting.append(generation([2] * 150))
    plan.admit()
    assert not old.tokens
    assert len(new.tokens) == 99


def test_when_cells_run_out_the_youngest_steps_back_and_the_oldest_goes_on() -> None:
    plan = scheduler(n_slots=2, n_cells=400)
    first, second = generation(range(100)), generation(range(1000, 1100))
    plan.waiting.extend([first, second])
    plan.admit()
    prefill_all(plan)
    plan.make_room(300)
    assert [slot.generation for slot in plan.running] == [first]
    assert list(plan.waiting) == [second]
    assert plan.free_cells == 300


def test_prefill_is_given_out_oldest_first_within_the_budget() -> None:
    plan = scheduler(n_slots=2, n_cells=10_000)
    plan.waiting.extend([generation(range(100)), generation(range(500, 600))])
    plan.admit()
    chunks = plan.plan_prefill(120)
    assert [len(chunk.tokens) for chunk in chunks] == [99, 21]


def test_cancelled_requests_leave_queue_and_slots() -> None:
    plan = scheduler(n_slots=1, n_cells=10_000)
    running, waiting, other = generation([1, 2]), generation([3, 4]), generation([5, 6])
    plan.waiting.extend([running, waiting, other])
    plan.admit()
    running.cancelled = waiting.cancelled = True
    plan.drop_cancelled()
    assert not plan.running
    assert list(plan.waiting) == [other]


@given(
    sizes=st.lists(st.integers(2, 300), min_size=1, max_size=12),
    n_slots=st.integers(1, 4),
    data=st.data(),
)
def test_claims_never_exceed_the_cache_and_everybody_gets_a_turn(
    sizes: list[int], n_slots: int, data: st.DataObject
) -> None:
    n_cells = 300 + HEADROOM
    plan = scheduler(n_slots, n_cells)
    pending = [
        generation([base * 1000 + i % 1000 for i in range(size)]) for base, size in enumerate(sizes)
    ]
    plan.waiting.extend(pending)
    done = 0
    for _ in range(10 * len(sizes)):
        plan.admit()
        assert plan.free_cells >= 0
        prefill_all(plan)
        assert plan.running, "nothing runs although requests wait"
        plan.finish(data.draw(st.sampled_from(plan.running)))
        done += 1
        if done == len(sizes):
            break
    assert done == len(sizes)
    assert not plan.waiting


def test_prefill_is_bounded_only_while_others_decode() -> None:
    pacer = PrefillPacer(max_stall=0.1, largest=512, tokens_per_second=1000)
    assert pacer.budget(others_decode=False) == 512
    assert pacer.budget(others_decode=True) == 100
    for _ in range(50):
        pacer.observe(100, seconds=0.5)
    assert pacer.budget(others_decode=True) == pytest.approx(20, abs=1)
