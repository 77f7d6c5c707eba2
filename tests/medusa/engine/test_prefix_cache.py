from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from medusa.engine.kv_labels import StateLabels
from medusa.engine.memory import MemoryRules
from medusa.engine.prefix_cache import PrefixCache
from medusa.engine.prefixes import PrefixKey, common_prefix
from medusa.engine.slot import Slot
from medusa.llama.adapters import AdapterSet
from medusa.speculation.tree import TokenTree
from tests.medusa.engine.scheduling import POET, make_slots, sequence
from tests.medusa.engine.test_kv_labels import FakeCache


def cache_of(n_cells: int, *texts: list[int], **rules: Any) -> tuple[PrefixCache, list[Slot]]:
    """Idle slots that hold these texts, the first one least recently used."""
    slots = make_slots(len(texts))
    cache = PrefixCache(slots, MemoryRules(1, n_cells, **rules))
    for slot, text in zip(slots, texts, strict=True):
        slot.prefilled(text)
        cache.touch(slot)
    return cache, slots


def key(*tokens: int, adapters: AdapterSet = ()) -> PrefixKey:
    return PrefixKey(adapters, list(tokens))


@given(a=st.lists(st.integers(0, 2)), b=st.lists(st.integers(0, 2)))
def test_common_prefix(a: list[int], b: list[int]) -> None:
    length = common_prefix(a, b)
    assert a[:length] == b[:length]
    assert length in (len(a), len(b)) or a[length] != b[length]


def test_the_longest_prefix_is_matched() -> None:
    cache, slots = cache_of(100, [1, 2, 3], [1, 2, 3, 4, 5], [9])
    assert cache.match(key(1, 2, 3, 4, 9)) == (slots[1], 4)


def test_a_prefix_of_another_adapter_does_not_match() -> None:
    cache, _ = cache_of(100, [1, 2, 3])
    assert cache.match(key(1, 2, 3, adapters=POET))[1] == 0


def test_asking_changes_nothing() -> None:
    cache, slots = cache_of(40, [1] * 10, [2] * 10, [3] * 10)
    before = [(list(slot.tokens), slot.last_used) for slot in slots]
    assert cache.place(key(*[4] * 30), 39) is not None
    assert cache.place(key(*[4] * 30), 41) is None
    assert [(slot.tokens, slot.last_used) for slot in slots] == before


def test_no_more_slots_give_way_than_must() -> None:
    cache, slots = cache_of(40, [1] * 10, [2] * 10, [3] * 10, [])
    placement = cache.place(key(*[4] * 18), 18)
    assert placement is not None
    assert placement.target is slots[3]
    assert placement.victims == (slots[0],)
    cache.take(placement)
    assert [len(slot.tokens) for slot in slots] == [0, 10, 10, 0]
    assert cache.free_cells == 20


def test_cells_that_are_taken_over_need_no_room() -> None:
    cache, _ = cache_of(30, list(range(20)), [])
    placement = cache.place(key(*range(15), 99), 25)
    assert placement is not None
    cache.take(placement)
    assert placement.target.tokens == list(range(15))
    assert cache.free_cells >= 10


def test_the_source_of_a_prefix_may_give_way_once_its_cells_are_shared() -> None:
    cache, _ = cache_of(60, list(range(50)), [])
    placement = cache.place(key(*range(20), 99), 60)
    assert placement is not None
    cache.take(placement)
    assert placement.target.tokens == list(range(20))
    assert cache.free_cells == 40


def test_room_is_made_least_recently_used_first() -> None:
    cache, slots = cache_of(40, [1] * 10, [2] * 10, [3] * 10)
    cache.touch(slots[0])
    assert cache.make_room(20)
    assert [len(slot.tokens) for slot in slots] == [10, 0, 10]
    assert not cache.make_room(41)


def test_what_cannot_be_truncated_is_matched_as_a_whole() -> None:
    cache, slots = cache_of(100, [1, 2, 3], [1, 2, 3, 4, 5], [1], can_truncate=False)
    assert cache.match(key(1, 2, 3, 4, 9)) == (slots[0], 3)
    assert cache.match(key(1, 2))[1] == 1
    assert cache.match(key(2, 2))[1] == 0


def test_a_state_that_was_rolled_back_is_not_copied() -> None:
    """llama.cpp would copy the state from before it went back."""
    slots = [Slot(StateLabels(FakeCache(), index, rollback=3)) for index in range(2)]
    cache = PrefixCache(slots, MemoryRules(1, 100, can_truncate=False, rollback=3))
    source, other = slots
    source.prefilled([1, 2, 3])
    source.settle(TokenTree((4, 5, 6), (-1, 0, 1)), [0, 1])
    wanted = key(1, 2, 3, 4, 5, 6)
    assert cache.match(wanted) == (source, 5)  # to go on there itself
    source.start(sequence([1, 2, 3, 4, 5, 9]))
    assert cache.match(wanted)[1] == 0
    source.settle(TokenTree.root_only(6), [0])
    assert cache.match(key(1, 2, 3, 4, 5, 6, 7)) == (source, 6)
    placement = cache.place(key(1, 2, 3, 4, 5, 6, 7), 8)
    assert placement is not None
    assert placement.target is other


def test_a_slot_that_cannot_share_runs_on_itself() -> None:
    cache, slots = cache_of(100, list(range(20)), [99], [], can_share=False)
    placement = cache.place(key(*range(15), 98), 16)
    assert placement is not None
    assert (placement.target, placement.source, placement.reused) == (slots[0], slots[0], 15)


def test_a_long_text_is_not_given_up_for_a_short_beginning() -> None:
    cache, slots = cache_of(100, list(range(20)), [99], [], can_share=False)
    placement = cache.place(key(*range(5), 98), 6)
    assert placement is not None
    assert (placement.target, placement.source, placement.reused) == (slots[2], slots[2], 0)


def test_a_busy_slot_is_no_source_where_nothing_is_shared() -> None:
    cache, slots = cache_of(100, list(range(20)), [], can_share=False)
    slots[0].start(sequence(range(30)))
    assert cache.match(key(*range(25)))[1] == 0


def test_spoilt_cells_are_dropped_by_all_who_are_idle() -> None:
    cache, slots = cache_of(100, [1] * 10, [1] * 4, [1] * 4, [2] * 10)
    spoilt, sharer, runner, other = slots
    for slot in (sharer, runner):
        slot.share(spoilt, 4)
    runner.start(sequence([1] * 6))
    cache.drop_spoilt(spoilt)
    assert [len(slot.tokens) for slot in (spoilt, sharer, runner, other)] == [0, 0, 4, 10]
