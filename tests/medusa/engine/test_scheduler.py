from hypothesis import given
from hypothesis import strategies as st

from medusa.engine.config import HEADROOM
from medusa.engine.pacer import PrefillPacer
from medusa.engine.policy import MAX_PASSES
from medusa.engine.scheduler import Scheduler
from medusa.engine.sequence import Sequence
from tests.medusa.engine.scheduling import (
    POET,
    end,
    make_scheduler,
    play,
    run_to_end,
    running,
    sequence,
    slot_of,
)


def cached(wanted: Sequence) -> int:
    return wanted.output.cached_tokens


def test_requests_are_admitted_in_order_of_arrival() -> None:
    scheduler = make_scheduler(n_slots=2, n_cells=10_000)
    first, second, third = (sequence([i, i]) for i in range(3))
    scheduler.add([first, second, third])
    play(scheduler)
    assert running(scheduler) == [first, second]
    end(scheduler, first)
    play(scheduler)
    assert third in running(scheduler)


def test_the_next_turn_of_a_chat_reuses_its_slot() -> None:
    scheduler = make_scheduler(n_slots=3, n_cells=10_000)
    slot = run_to_end(scheduler, sequence(range(100)))
    run_to_end(scheduler, sequence(range(500, 600)))
    next_turn = sequence(range(150))
    scheduler.add([next_turn])
    (chunk,) = scheduler.schedule().prefill
    assert slot_of(scheduler, next_turn) is slot is chunk.slot
    assert cached(next_turn) == 100
    assert chunk.tokens == list(range(100, 149))


def test_a_shared_system_prompt_is_copied_from_a_running_slot() -> None:
    scheduler = make_scheduler(n_slots=2, n_cells=10_000)
    scheduler.add([sequence([*range(50), 900])])
    play(scheduler)
    other = sequence([*range(50), 901, 902])
    scheduler.add([other])
    play(scheduler)
    assert cached(other) == 50


def test_another_adapters_cells_are_not_reused() -> None:
    scheduler = make_scheduler(n_slots=3, n_cells=10_000)
    run_to_end(scheduler, sequence(range(100)))
    other = sequence(range(100), adapters=POET)
    same = sequence(range(100))
    scheduler.add([other, same])
    play(scheduler)
    assert (cached(other), cached(same)) == (0, 99)
    again = sequence(range(100), adapters=POET)
    scheduler.add([again])
    play(scheduler)
    assert cached(again) == 99


def test_a_short_common_beginning_does_not_cost_another_chat_its_cache() -> None:
    scheduler = make_scheduler(n_slots=2, n_cells=10_000)
    chat = run_to_end(scheduler, sequence(range(200)))
    other = run_to_end(scheduler, sequence([*range(20), 900, 901]))
    assert other is not chat
    assert len(chat.tokens) == 200


def test_identical_prompts_wait_for_the_one_being_prefilled() -> None:
    scheduler = make_scheduler(n_slots=2, n_cells=10_000)
    first, second = sequence(range(300)), sequence(range(300))
    scheduler.add([first, second])
    play(scheduler)
    assert running(scheduler) == [first]
    play(scheduler)
    assert cached(second) == 299


def test_a_full_cache_delays_admission() -> None:
    scheduler = make_scheduler(n_slots=4, n_cells=400)
    big, other = sequence(range(250)), sequence(range(1000, 1200))
    scheduler.add([big, other])
    play(scheduler)
    assert running(scheduler) == [big]
    end(scheduler, big)
    play(scheduler)
    assert running(scheduler) == [other]
    assert not scheduler.waiting


def test_cached_tokens_of_idle_slots_give_way_least_recently_used_first() -> None:
    scheduler = make_scheduler(n_slots=3, n_cells=400)
    old = run_to_end(scheduler, sequence([0] * 100))
    new = run_to_end(scheduler, sequence([1] * 100))
    scheduler.add([sequence([2] * 150)])
    scheduler.schedule()
    assert not old.tokens
    assert len(new.tokens) == 100


def test_a_request_that_is_not_admitted_costs_nobody_anything() -> None:
    scheduler = make_scheduler(n_slots=3, n_cells=1000)
    chat = run_to_end(scheduler, sequence(range(99)))
    running_one = sequence(range(1000, 1600))
    scheduler.add([running_one])
    play(scheduler)
    too_large = sequence(range(2000, 2500))
    scheduler.add([too_large])
    for _ in range(5):
        play(scheduler)
    assert running(scheduler) == [running_one]
    assert scheduler.waiting == [too_large]
    assert len(chat.tokens) == 99, "the idle chat has lost its cache for nothing"


def test_shared_cells_count_once_so_that_all_answers_to_one_prompt_run_together() -> None:
    scheduler = make_scheduler(n_slots=8, n_cells=16_384)
    answers = [sequence(range(8000)) for _ in range(8)]
    scheduler.add(answers)
    play(scheduler)
    play(scheduler)
    assert len(scheduler.running) == 8


def test_who_fits_passes_a_blocked_request() -> None:
    scheduler = make_scheduler(n_slots=8, n_cells=2048)
    first, blocked, small = (
        sequence(range(1350)),
        sequence(range(2000, 3100)),
        sequence(range(5000, 5005)),
    )
    scheduler.add([first, blocked, small])
    play(scheduler)
    assert running(scheduler) == [first, small]
    end(scheduler, first)
    play(scheduler)
    assert blocked in running(scheduler)


def test_a_blocked_request_is_passed_a_bounded_number_of_times() -> None:
    scheduler = make_scheduler(n_slots=2, n_cells=1000)
    long_running, blocked = sequence(range(500)), sequence(range(2000, 2600))
    small = [sequence([5000 + i, 1]) for i in range(MAX_PASSES + 5)]
    scheduler.add([long_running, blocked, *small])
    play(scheduler)
    passed = 0
    while len(scheduler.running) == 2:
        (other,) = [s for s in running(scheduler) if s is not long_running]
        assert other in small
        passed += 1
        end(scheduler, other)
        play(scheduler)
    assert passed == MAX_PASSES
    end(scheduler, long_running)
    play(scheduler)
    assert blocked in running(scheduler)


def test_when_cells_run_out_the_youngest_steps_back_and_the_oldest_goes_on() -> None:
    scheduler = make_scheduler(n_slots=2, n_cells=330)
    first, second = sequence(range(100)), sequence(range(1000, 1100))
    scheduler.add([first, second])
    for _ in range(66):
        play(scheduler)
    assert running(scheduler) == [first]
    assert scheduler.waiting == [second]
    assert second.n_generated > 60
    end(scheduler, first)
    play(scheduler)
    assert running(scheduler) == [second]


def pieces(scheduler: Scheduler, steps: int) -> list[dict[int, int]]:
    """Of each step, how many tokens of which prompt (by its first token) are prefilled."""
    found = []
    for _ in range(steps):
        plan = play(scheduler)
        chunks = (*plan.prefill, *plan.scored)
        found.append({c.slot.sequence.tokens[0]: len(c.tokens) for c in chunks})
    return found


def pacer(tokens: int) -> PrefillPacer:
    """So many tokens a step while others decode; never learns, since no time passes."""
    return PrefillPacer(max_stall=1.0, largest=512, tokens_per_second=tokens)


def test_prefill_is_given_out_oldest_first_within_the_budget() -> None:
    scheduler = make_scheduler(n_slots=3, n_cells=10_000, pacer=pacer(120))
    scheduler.add([sequence([7, 7])])
    play(scheduler)
    scheduler.add([sequence(range(100)), sequence(range(500, 600))])
    assert pieces(scheduler, 2) == [{0: 99, 500: 21}, {500: 78}]


def test_a_short_prompt_behind_a_long_one_starts_within_one_piece() -> None:
    scheduler = make_scheduler(n_slots=3, n_cells=20_000, pacer=pacer(62))
    scheduler.add([sequence([7, 7])])
    play(scheduler)
    short = sequence(range(10_000, 10_021))
    scheduler.add([sequence(range(8000)), short])
    play(scheduler)
    assert short.n_generated == 1


def test_prompts_with_wanted_log_probabilities_keep_to_the_same_budget() -> None:
    """Seven of them, which took 64 tokens each in every step."""
    scheduler = make_scheduler(n_slots=8, n_cells=20_000, pacer=pacer(60))
    scheduler.add([sequence([7, 7])])
    play(scheduler)
    scored = [sequence(range(i, i + 500), prompt_logprobs=0) for i in range(1000, 8000, 1000)]
    scheduler.add(scored)
    for step in pieces(scheduler, 20):
        assert sum(step.values()) <= 30, "tokens with logits count as half as fast"


def test_a_prompt_that_was_scored_is_not_scored_again_after_stepping_back() -> None:
    scheduler = make_scheduler(n_slots=2, n_cells=330)
    first, second = sequence(range(100)), sequence(range(1000, 1100), prompt_logprobs=0)
    scheduler.add([first, second])
    n_scored = 0
    for _ in range(400):
        n_scored += play(scheduler).n_scored
        if not scheduler.waiting and second not in running(scheduler):
            break
        if second in scheduler.waiting and first in running(scheduler):
            end(scheduler, first)
    assert n_scored == 99


def test_cancelled_requests_leave_queue_and_slots() -> None:
    scheduler = make_scheduler(n_slots=1, n_cells=10_000)
    first, waiting, other = sequence([1, 2]), sequence([3, 4]), sequence([5, 6])
    scheduler.add([first, waiting, other])
    play(scheduler)
    first.cancel()
    waiting.cancel()
    play(scheduler)
    assert running(scheduler) == [other]
    assert not scheduler.waiting


@given(
    sizes=st.lists(st.integers(2, 300), min_size=1, max_size=12),
    n_slots=st.integers(1, 4),
    common=st.integers(0, 100),
    data=st.data(),
)
def test_claims_never_exceed_the_cache_and_everybody_gets_a_turn(
    sizes: list[int], n_slots: int, common: int, data: st.DataObject
) -> None:
    scheduler = make_scheduler(n_slots, n_cells=300 + HEADROOM)
    pending = [
        sequence([i if i < common else base * 1000 + i for i in range(size)])
        for base, size in enumerate(sizes, start=1)
    ]
    scheduler.add(pending)
    done = 0
    for _ in range(20 * len(sizes)):
        play(scheduler)
        assert scheduler.free_cells >= 0
        assert scheduler.running, "nothing runs although requests wait"
        decoding = [s for s in running(scheduler) if s.n_generated]
        if decoding:
            end(scheduler, data.draw(st.sampled_from(decoding)))
            done += 1
        if done == len(sizes):
            break
    assert done == len(sizes)
    assert not scheduler.waiting
