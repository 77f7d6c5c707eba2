"""What is saved, and what is not, without a model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medusa.engine.memory import MemoryRules
from medusa.engine.prefix_cache import PrefixCache
from medusa.engine.prefixes import PrefixKey
from medusa.engine.prompt_cache.cache import PromptCache
from medusa.engine.prompt_cache.disk import Disk, Loaded, Result
from medusa.engine.prompt_cache.shelf import WORTH_KEEPING, Entry
from medusa.engine.slot import Slot
from tests.medusa.engine.scheduling import make_slots

RULES = MemoryRules(1, 10_000)
A, B = [1] * 100, [2] * 100


class Shop(Disk):
    """A disk with these entries, which never gets round to anything."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.stock = list(entries)
        self.asked: list[Entry] = []
        self.news: list[Result] = []

    def __str__(self) -> str:
        return "a shop"

    @property
    def has_results(self) -> bool:
        return bool(self.news)

    def entries(self) -> list[Entry]:
        return self.stock

    def load(self, entry: Entry) -> None:
        self.asked.append(entry)

    def results(self) -> list[Result]:
        news, self.news = self.news, []
        return news


def cache_of(
    *texts: list[int], prompts: PromptCache | None = None
) -> tuple[PrefixCache, list[Slot], PromptCache]:
    prompts = prompts or PromptCache(RULES, 100_000)
    slots = make_slots(len(texts))
    cache = PrefixCache(slots, RULES, prompts)
    for slot, text in zip(slots, texts, strict=True):
        for position, token in enumerate(text):
            slot.labels._store.add(position, token, [slot.labels.primary])  # type: ignore[attr-defined]
        slot.prefilled(text)
        cache.touch(slot)
    return cache, slots, prompts


def run(cache: PrefixCache, text: list[int]) -> Slot:
    placement = cache.place(PrefixKey((), text), len(text) + 10)
    assert placement is not None
    cache.take(placement)
    return placement.target


def test_what_is_lost_is_saved_and_comes_back() -> None:
    cache, (slot,), prompts = cache_of(A)
    assert run(cache, B).tokens == []
    assert prompts.stats.texts == 1
    assert run(cache, [*A, 7]) is slot
    assert slot.tokens == A
    assert len(slot.cells) == len(A)
    assert prompts.take_restored() == (100,)
    assert prompts.take_restored() == ()
    assert prompts.stats.n_bytes == 0, "the slot holds it all"


def test_an_edited_conversation_is_saved_as_it_was() -> None:
    cache, _, prompts = cache_of([*A, *B])
    assert run(cache, [*A, 7]).tokens == A
    assert run(cache, [*A, *B, 7]).tokens == [*A, *B]
    assert prompts.take_restored() == (200,)


def test_a_part_of_a_saved_text_leaves_it_saved() -> None:
    cache, _, prompts = cache_of([*A, *B])
    run(cache, [9])
    assert run(cache, [*A, 7]).tokens == A
    assert prompts.stats.texts == 1
    assert prompts.stats.n_bytes > 0


def test_what_another_slot_holds_is_not_saved() -> None:
    cache, slots, prompts = cache_of([*A, *B], A)
    cache.give_up(slots[1])
    assert prompts.stats.texts == 0
    cache.give_up(slots[0])
    assert prompts.stats.texts == 1


def test_little_is_not_saved() -> None:
    cache, (slot,), prompts = cache_of(A[: WORTH_KEEPING - 1])
    cache.give_up(slot)
    assert prompts.stats.texts == 0
    cache, (slot,), prompts = cache_of(A)
    cache.give_up(slot, kept=len(A) - WORTH_KEEPING + 1)
    assert prompts.stats.texts == 0


def test_what_is_spoilt_is_not_saved() -> None:
    cache, (slot,), prompts = cache_of(A)
    cache.drop_spoilt(slot)
    assert (slot.tokens, prompts.stats.texts) == ([], 0)


def test_saving_holds_up_nobody_for_longer_than_allowed() -> None:
    cache, (slot,), prompts = cache_of(A, prompts=PromptCache(RULES, 100_000, max_stall=0.0))
    prompts.begin_step(busy=True)
    cache.give_up(slot)
    assert prompts.stats.texts == 0
    cache, (slot,), prompts = cache_of(A, prompts=PromptCache(RULES, 100_000, max_stall=0.0))
    prompts.begin_step(busy=False)
    cache.give_up(slot)
    assert prompts.stats.texts == 1


def test_one_file_is_read_at_a_time() -> None:
    one, two = (
        Entry((), np.array(text, np.int32), 800, path=Path(str(text[0]))) for text in (A, B)
    )
    disk = Shop([one, two])
    prompts = PromptCache(RULES, 1000, disk=disk)
    found = [prompts.find(PrefixKey((), [*text, 7]), 0, in_ram=False) for text in (A, B)]
    first, second = (stored for stored in found if stored is not None)
    assert prompts.find(PrefixKey((), [*A, 7]), 0, in_ram=True) is None
    assert not prompts.is_ready(first)
    assert not prompts.is_ready(second)
    assert disk.asked == [one]
    assert prompts.is_waiting
    assert prompts.find(PrefixKey((), [*A, 7]), 0, in_ram=True) == first, "it is on its way"
    disk.news.append(Loaded(one, np.zeros(800, np.uint8)))
    assert not prompts.is_waiting
    assert prompts.begin_step(busy=False)
    assert prompts.is_ready(first)
    assert not prompts.is_ready(second)
    assert disk.asked == [one, two]
    assert prompts.stats.n_bytes == 0, "the second one needs the room"


def test_what_can_not_be_read_is_forgotten() -> None:
    one = Entry((), np.array(A, np.int32), 800)
    disk = Shop([one])
    prompts = PromptCache(RULES, 1000, disk=disk)
    stored = prompts.find(PrefixKey((), [*A, 7]), 0, in_ram=False)
    assert stored is not None
    assert not prompts.is_ready(stored)
    disk.news.append(Loaded(one, None))
    assert prompts.begin_step(busy=False)
    assert prompts.find(PrefixKey((), [*A, 7]), 0, in_ram=False) is None
