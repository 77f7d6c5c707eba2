from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medusa.engine.memory import MemoryRules
from medusa.engine.prefixes import PrefixKey
from medusa.engine.prompt_cache.shelf import WORTH_KEEPING, Entry, Shelf, Stored
from medusa.llama.adapters import AdapterSet, Applied

RULES = MemoryRules(1, 100_000)


def entry(tokens: list[int], *, adapters: AdapterSet = (), size: int | None = None) -> Entry:
    size = len(tokens) if size is None else size
    return Entry(adapters, np.array(tokens, np.int32), size, np.zeros(size, np.uint8))


def find(shelf: Shelf, tokens: list[int], beyond: int = 0) -> Stored | None:
    return shelf.find(PrefixKey((), tokens), beyond, lambda entry: entry.state is not None)


def shelf_of(*entries: Entry, limit: int = 100_000, rules: MemoryRules = RULES) -> Shelf:
    shelf = Shelf(rules, limit)
    for each in entries:
        shelf.add(each)
    return shelf


TEXTS = st.integers(0, 3).flatmap(
    lambda text: st.integers(1, 200).map(lambda n: [text // 2] * min(n, 60) + [text] * (n - 60))
)


@given(texts=st.lists(TEXTS, max_size=12), limit=st.integers(1, 500))
def test_never_more_than_the_limit_and_nothing_that_is_contained(
    texts: list[list[int]], limit: int
) -> None:
    shelf = Shelf(RULES, limit)
    for text in texts:
        if len(text) > limit or shelf.covers(PrefixKey((), text)):
            continue
        shelf.make_room(len(text))
        assert shelf.n_bytes + len(text) <= limit
        shelf.add(entry(text))
        kept = [each.tokens.tolist() for each in shelf]
        assert text in kept, "the newest one stays"
        assert shelf.n_bytes == sum(map(len, kept)) <= limit
        for one in kept:
            assert not any(other[: len(one)] == one for other in kept if other is not one)


@given(texts=st.lists(TEXTS, max_size=12), prompt=TEXTS, beyond=st.integers(0, 100))
def test_what_is_found_is_a_prefix_that_pays(
    texts: list[list[int]], prompt: list[int], beyond: int
) -> None:
    found = find(shelf_of(*map(entry, texts)), prompt, beyond)
    longest = max((len(text) for text in texts if prompt[: len(text)] == text), default=0)
    if found is None:
        assert longest - beyond < max(WORTH_KEEPING, longest / 16 + 1)
        return
    assert found.entry.tokens[: found.usable].tolist() == prompt[: found.usable]
    assert found.usable >= max(longest - len(prompt) / 16, beyond + WORTH_KEEPING)


def test_a_long_text_is_not_loaded_for_a_few_of_its_tokens() -> None:
    long = entry([1] * 40 + [2] * 3000)
    assert find(shelf_of(long), [1] * 40 + [3]) is None
    short = entry([1] * 40 + [4] * 20)
    assert find(shelf_of(long, short), [1] * 40 + [3]) == Stored(short, 40)


def test_another_adapters_text_is_no_help() -> None:
    shelf = shelf_of(entry([1] * 100, adapters=(Applied(0, 1.0),)))
    assert find(shelf, [1] * 101) is None
    assert not shelf.covers(PrefixKey((), [1] * 100))
    shelf.add(entry([1] * 101))
    assert len(shelf) == 2


def test_the_least_recently_used_goes_first() -> None:
    one, two, three = entry([1] * 100), entry([2] * 100), entry([3] * 100)
    shelf = shelf_of(one, two, limit=250)
    shelf.touch(one)
    shelf.add(three)
    assert list(shelf) == [one, three]
    assert two.state is None


def test_what_is_on_disk_too_is_remembered() -> None:
    one, two = entry([1] * 100), entry([2] * 100)
    one.path = Path("one")
    shelf = shelf_of(one, two, limit=150)
    assert list(shelf) == [one, two]
    assert shelf.n_bytes == 100
    assert find(shelf, [1] * 101) is None
    assert shelf.find(PrefixKey((), [1] * 101), 0, lambda _: True) == Stored(one, 100)


def test_a_state_that_cannot_go_back_serves_what_goes_on_from_all_of_it() -> None:
    shelf = shelf_of(entry([1] * 100), rules=MemoryRules(1, 1000, can_truncate=False))
    assert find(shelf, [1] * 99) is None
    found = find(shelf, [1] * 101)
    assert found is not None
    assert found.usable == 100
    shelf.add(entry([1] * 110))
    assert len(shelf) == 2, "the longer one does not serve who stops before"


def test_so_does_one_of_which_the_windows_see_the_end_only() -> None:
    rules = MemoryRules(2, 1000, window=64, is_guarded=True)
    assert find(shelf_of(entry([1] * 100), rules=rules), [1] * 99) is None
    assert find(shelf_of(entry([1] * 100), rules=rules), [1] * 101) is not None
    assert find(shelf_of(entry([1] * 60 + [2]), rules=rules), [1] * 60 + [3]) is not None
