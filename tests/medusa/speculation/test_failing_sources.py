"""Whatever fails while guessing costs guesses, never a request."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.speculation.calibration import BINS
from medusa.speculation.cost import FixedCost, MeasuredCost
from medusa.speculation.drafter import DraftConfig, Drafted, Drafter
from medusa.speculation.heads.guessing import Heads, Proposals
from medusa.speculation.sources.source import Draft, DraftRequest, DraftSource
from medusa.speculation.tree import StaticShape, TokenTree
from tests.medusa.speculation.drafts import paths
from tests.medusa.speculation.fakes import NEW, REPEATING, FakeHeads, Key, wanted

COPY = TokenTree((2, 3, 4, 5, 1), (-1, 0, 1, 2, 3))  # of REPEATING, alone
ROOTS = [TokenTree.root_only(2), TokenTree.root_only(5)]


def drafter_with(heads: Heads, *, lookup: bool = True, shape: StaticShape | None = None) -> Drafter:
    config = DraftConfig(max_nodes=4, max_requests=2, lookup=lookup, shape=shape, cost=FixedCost())
    return Drafter.create(heads, config, None)


def draft_two(drafter: Drafter) -> Drafted:
    return drafter.draft([wanted(REPEATING), wanted(NEW)])


class BrokenHeads(FakeHeads):
    """Heads that fail a number of times."""

    def __init__(self, times: int = 1000) -> None:
        super().__init__()
        self.times = times
        self.calls = 0

    def propose(self, hidden: np.ndarray, roots: np.ndarray) -> list[Proposals]:
        self.calls += 1
        if self.calls <= self.times:
            raise RuntimeError("no memory")
        return super().propose(hidden, roots)


def test_heads_that_fail_leave_the_copies() -> None:
    drafted = draft_two(drafter_with(BrokenHeads()))
    assert drafted.trees == [COPY, ROOTS[1]]
    assert drafted.failures == 1


@pytest.mark.parametrize("shape", [None, StaticShape(((0,),))])
def test_without_other_sources_trees_are_roots_alone(shape: StaticShape | None) -> None:
    drafted = draft_two(drafter_with(BrokenHeads(), lookup=False, shape=shape))
    assert drafted.trees == ROOTS
    assert drafted.failures == 1


def test_heads_that_fail_three_times_in_a_row_are_not_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heads = BrokenHeads()
    drafter = drafter_with(heads)
    failures = [draft_two(drafter).failures for _ in range(100)]
    assert failures == [1, 1, 1, *[0] * 97]
    assert heads.calls == 3
    first, end = caplog.messages
    assert "heads failed" in first
    assert "switched off: no memory" in end


def test_heads_that_fail_twice_are_used_again() -> None:
    drafter = drafter_with(BrokenHeads(times=2))
    failures = [draft_two(drafter).failures for _ in range(3)]
    assert failures == [1, 1, 0]
    assert draft_two(drafter).trees[1].n_drafts > 0


@pytest.mark.parametrize("shape", [(2, 1, 2, BINS), (2, 2, 1, BINS), (2, 2, 2, 3), (5,)])
def test_counts_of_another_shape_than_the_heads_cost_their_guesses(shape: tuple[int, ...]) -> None:
    """A heads file with counts of too few heads or ranks used to end every request."""
    drafter = drafter_with(FakeHeads(counts=np.ones(shape, np.float32)))
    key = Key()
    for _ in range(10):
        (tree,) = drafter.draft([wanted(REPEATING, key)]).trees
        assert tree == COPY
        drafter.observe(key, [3])


class Chain:
    """Guesses 11, 12 and so on; fails when it is read for the `last` time."""

    source = "chain"

    def __init__(self, fails_after: int) -> None:
        self._left = fails_after

    def _read(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise RuntimeError("a draft that cannot be read")

    def guesses(self, place: int) -> Mapping[int, float]:
        self._read()
        return {11 + place: 0.9}

    def follow(self, place: int, token: int) -> int | None:
        self._read()
        return place + 1 if token == 11 + place else None


class Source(DraftSource):
    """Does what its parts are told; `error` is raised where there is one."""

    name = "test"
    runs_heads = False
    optional = False
    rests = True

    def __init__(
        self,
        drafts: Sequence[Draft | None] | Exception,
        on_observe: Exception | None = None,
    ) -> None:
        self._drafts, self._on_observe = drafts, on_observe

    def propose(self, requests: Sequence[DraftRequest]) -> Sequence[Draft | None]:
        if isinstance(self._drafts, Exception):
            raise self._drafts
        return self._drafts

    def observe(self, key: object, accepted: Sequence[int]) -> None:
        if self._on_observe is not None:
            raise self._on_observe


ERROR = RuntimeError("broken")


@pytest.mark.parametrize(
    "source",
    [
        Source(ERROR),
        Source([]),
        Source([None]),
        Source([None] * 3),
        Source([Chain(1000), Chain(1000)], on_observe=ERROR),
    ],
)
def test_one_source_that_fails_leaves_the_others(source: Source) -> None:
    good = Source([Chain(1000), Chain(1000)])
    drafter = Drafter([source, good], FixedCost(), 4)
    key = Key()
    failures = 0
    for _ in range(10):
        drafted = draft_two(drafter)
        failures += drafted.failures
        assert [tree.n_drafts for tree in drafted.trees] == [2, 2]
        drafter.observe(key, [11])
    assert failures == 3


def test_a_draft_that_cannot_be_read_leaves_roots_and_drafting_ends_after_three_times(
    caplog: pytest.LogCaptureFixture,
) -> None:
    drafter = Drafter([Source([Chain(2), None])], FixedCost(), 4)
    failures = [draft_two(drafter) for _ in range(6)]
    assert all(drafted.trees == ROOTS for drafted in failures)
    assert [drafted.failures for drafted in failures] == [1, 1, 1, 0, 0, 0]
    assert len(caplog.messages) == 2


class BrokenCost(MeasuredCost):
    """Neither knows nor learns anything."""

    def __init__(self) -> None:
        super().__init__([1], [1.0])

    def seconds(self, n_tokens: int) -> float:
        raise ZeroDivisionError

    def observe(self, n_tokens: int, decode_seconds: float, other_seconds: float) -> None:
        raise ZeroDivisionError


def test_a_cost_that_fails_leaves_roots() -> None:
    drafter = Drafter([Source([Chain(1000), None])], BrokenCost(), 4)
    for _ in range(5):
        drafter.learn(1, 0.1, 0.0)
        assert draft_two(drafter).trees == ROOTS


chances = st.floats() | st.sampled_from([0.5, 0.9, 1.0])
errors = st.sampled_from([RuntimeError(), ValueError(), IndexError(), AssertionError(), OSError()])


class Chaos:
    """A draft that says anything, and raises now and then."""

    source = "chaos"

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def guesses(self, _place: int) -> Mapping[int, float]:
        said = self._data.draw(st.dictionaries(st.integers(0, 9), chances, max_size=3) | errors)
        if isinstance(said, Exception):
            raise said
        return said

    def follow(self, _place: int, _token: int) -> int | None:
        return self._data.draw(st.none() | st.integers(0, 3))


@given(data=st.data(), fails=st.lists(st.none() | errors, min_size=2, max_size=2))
def test_whatever_a_source_does_trees_are_trees_with_the_requests_roots(
    data: st.DataObject, fails: list[Exception | None]
) -> None:
    drafts = fails[0] or [
        data.draw(st.sampled_from([None, Chaos(data), Chain(3), Chain(1000)])) for _ in range(2)
    ]
    sources = [Source(drafts, fails[1]), Source([Chaos(data), None])]
    drafter = Drafter(sources, FixedCost(), 4)
    key = Key()
    for _ in range(data.draw(st.integers(1, 4))):
        trees = draft_two(drafter).trees
        drafter.observe(key, [3])
        assert [tree.tokens[0] for tree in trees] == [2, 5]
        assert sum(tree.n_drafts for tree in trees) <= 4
        for tree in trees:
            assert len(set(paths(tree))) == tree.n_drafts
            assert all(0 <= parent < node for node, parent in enumerate(tree.parents) if node)
