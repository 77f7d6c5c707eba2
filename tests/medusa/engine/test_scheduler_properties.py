"""Random lives of requests in a scheduler without a model, on a cache too small for them.

Everything that may happen happens at random: arrivals, shared beginnings, scored prompts,
embeddings, guesses that are right or wrong, failures, cancellations, pauses, ends. After every
step the slots, the labels of the cache and the scheduler's own counts must agree, and in the end
everybody has had his answer.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medusa.engine.config import HEADROOM
from medusa.engine.events import Embedded, Event, Failed, Finished, PromptScored
from medusa.engine.fairness import EVERYBODY, Tenant
from medusa.engine.kv_labels import SlotLabels
from medusa.engine.memory import MemoryRules
from medusa.engine.pacer import PrefillPacer
from medusa.engine.plan import Candidates, StepPlan, StepResult, Verified
from medusa.engine.policy import MAX_PASSES
from medusa.engine.pooling import Pooling
from medusa.engine.prompt_cache.cache import PromptCache
from medusa.engine.prompt_cache.disk import Disk, Loaded, Removed, Result, Written
from medusa.engine.prompt_cache.shelf import Entry
from medusa.engine.requests import GenerationRequest
from medusa.engine.scheduler import Scheduler
from medusa.engine.sequence import Sequence
from medusa.engine.slot import Slot
from medusa.engine.turns import TURN_STEPS
from medusa.errors import DecodeError
from medusa.llama.adapters import Applied
from medusa.speculation.tree import TokenTree
from tests.medusa.engine.scheduling import NOTHING, POET, make_scheduler, play, sequence, slot_of
from tests.medusa.engine.test_kv_labels import FakeCache

LEAVES = 3
DRAFT_NODES = 6
N_VOCAB = 60
LARGEST, LARGEST_SCORED = 40, 12
END = N_VOCAB - 1
TEXTS = [random.Random(text).choices(range(END), k=200) for text in range(3)]


class SmallVocabulary:
    pieces = [b"x"] * N_VOCAB
    eog_tokens = frozenset({END})
    control_tokens: frozenset[int] = frozenset()


@dataclass(eq=False)
class Customer:
    """A request, and what has come of it."""

    sequence: Sequence
    events: list[Event] = field(default_factory=list)
    was_cancelled: bool = False
    was_paused: bool = False
    overtaken: int = 0  # requests that came later and ran first

    @property
    def has_ended(self) -> bool:
        return self.was_cancelled or any(isinstance(e, Finished | Failed) for e in self.events)


class FakeDisk(Disk):
    """One that takes its time, and forgets now and then."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.states: dict[Path, np.ndarray] = {}
        self.pending: list[Result] = []
        self.n_written = 0

    def __str__(self) -> str:
        return "a fake"

    @property
    def has_results(self) -> bool:
        return True  # that is, nobody need wait for a call to `wake`

    def entries(self) -> list[Entry]:
        return []

    def write(self, entry: Entry) -> None:
        if entry.state is None or self.dice.random() < 0.1:
            self.pending.append(Written(entry, None))
            return
        path = Path(str(self.n_written))
        self.n_written += 1
        self.states[path] = entry.state
        self.pending.append(Written(entry, path))

    def load(self, entry: Entry) -> None:
        assert entry.path is not None
        self.pending.append(Loaded(entry, self.states.get(entry.path)))

    def remove(self, path: Path) -> None:
        self.states.pop(path, None)

    def touch(self, path: Path) -> None:
        if self.states and self.dice.random() < 0.3:
            gone = self.dice.choice(list(self.states))
            del self.states[gone]
            self.pending.append(Removed(gone))

    def results(self) -> list[Result]:
        count = self.dice.randint(0, len(self.pending))
        done, self.pending = self.pending[:count], self.pending[count:]
        return done


class World:
    """A scheduler, a cache, and requests that come and go."""

    def __init__(self, dice: random.Random, is_plain: bool) -> None:
        self.dice = dice
        self.is_plain = is_plain  # one tenant and one priority: first come, first served
        self.tenants = [EVERYBODY] if is_plain else [Tenant("a"), Tenant("b"), Tenant("c", 9.0)]
        self.n_slots = dice.randint(1, 5)
        self.n_cells = self.n_slots + DRAFT_NODES + 2 * HEADROOM + dice.randint(0, 200)
        self.max_context = self.n_cells - HEADROOM - DRAFT_NODES
        self.cache = FakeCache(self.n_cells)
        self.slots = [
            Slot(SlotLabels(self.cache, index * LEAVES, LEAVES)) for index in range(self.n_slots)
        ]
        speed = dice.choice([1.0, 20.0, 500.0])
        self.pacer = PrefillPacer(1.0, LARGEST, LARGEST_SCORED, tokens_per_second=speed)
        rules = MemoryRules(LEAVES, self.n_cells)
        disk = FakeDisk(dice) if dice.random() < 0.5 else None
        self.prompts = PromptCache(rules, dice.choice([0, 500, 5_000, 50_000]), disk=disk)
        self.scheduler = Scheduler(self.slots, rules, self.pacer, self.prompts)
        self.restored = 0
        self.customers: list[Customer] = []
        self.started: set[Customer] = set()
        self.stepped_back = 0

    def arrive(self) -> None:
        """Up to three requests, the same text more than once now and then."""
        dice = self.dice
        beginning = dice.choice(TEXTS)[: dice.randint(0, self.max_context - 2)]
        beginning += dice.choices(range(END), k=dice.choice([0, 0, 1, 5]))
        prompt = tuple(beginning[: self.max_context - 1]) or (1,)
        arrived = []
        for _ in range(dice.choice([1, 1, 1, 3])):
            customer = Customer(None)  # type: ignore[arg-type]
            pooling = dice.choice([None] * 6 + [Pooling.MEAN, Pooling.LAST])
            request = GenerationRequest(
                prompt,
                max_tokens=0 if pooling else dice.choice([None, None, 0, 1, 2, 30, 90]),
                prompt_logprobs=None if pooling else dice.choice([None, None, None, 0]),
                pooling=pooling,
                adapters=dice.choice([None, None, None, POET, (Applied(0, 0.5),)]),
                tenant=dice.choice(self.tenants),
                priority=0 if self.is_plain else dice.randint(0, 2),
            )
            customer.sequence = Sequence(
                request, SmallVocabulary(), customer.events.append, self.max_context
            )
            if customer.sequence.is_complete:
                customer.sequence.deliver()  # as the engine does
            else:
                arrived.append(customer.sequence)
            self.customers.append(customer)
        self.scheduler.add(arrived)

    def cancel(self) -> None:
        customer = self.dice.choice(self.customers)
        customer.was_cancelled |= not customer.has_ended
        customer.sequence.cancel()

    def pause(self) -> None:
        """Somebody cannot keep up, or can again."""
        customer = self.dice.choice(self.customers)
        customer.sequence.paused = not customer.sequence.paused
        customer.was_paused = True

    def step(self) -> None:
        """One step of an engine whose model says anything."""
        ran = {slot.sequence for slot in self.scheduler.running}
        plan = self.scheduler.schedule()
        self.restored += len(plan.restored)
        waiting = set(self.scheduler.waiting)
        self.stepped_back += len(ran & waiting)
        self._note_who_started()
        self._check_plan(plan)
        result = StepResult(plan)
        for chunk in (*plan.prefill, *plan.scored):
            for index, token in enumerate(chunk.tokens):
                self.cache.add(chunk.start + index, token, [chunk.slot.labels.primary])
        for candidates in plan.trees:
            for token, depth, seqs in candidates.slot.rows(candidates.tree):
                self.cache.add(candidates.position + depth, token, seqs)
        assert len(self.cache.cells) <= self.n_cells, "llama_decode would find no free cells"
        for chunk in plan.scored:
            sequence = chunk.slot.sequence
            if sequence.request.pooling:
                sequence.output.pool(np.ones((len(chunk.tokens), 4), np.float32))
            else:
                sequence.output.score(np.zeros((len(chunk.tokens), N_VOCAB), np.float32))
            if sequence.is_complete:
                sequence.deliver()
        result.verified.extend(self._verify(candidates, result) for candidates in plan.trees)
        self.scheduler.settle(result)
        self._draft(result)
        self._check_state()

    def _verify(self, candidates: Candidates, result: StepResult) -> Verified:
        slot, tree, sequence = candidates.slot, candidates.tree, candidates.slot.sequence
        path, node = [0], 0
        fails = self.dice.random() < 0.01
        while True:
            children = [n for n, parent in enumerate(tree.parents) if parent == node]
            right = children and self.dice.random() < 0.6
            following = self.dice.choice(children) if right else None
            token = self._surprise() if following is None else tree.tokens[following]
            sequence.append(token, NOTHING, NOTHING)
            if fails or following is None or sequence.finish_reason is not None:
                break
            node = following
            path.append(node)
        if fails:
            result.failed.add(slot)
            sequence.output.fail(RuntimeError("bad luck"))
            path = [0]
        else:
            sequence.deliver()
        return Verified(slot, sequence, tree, path, NOTHING)

    def _surprise(self) -> int:
        return END if self.dice.random() < 0.004 else self.dice.randrange(END)

    def _draft(self, result: StepResult) -> None:
        room = DRAFT_NODES
        for verified in result.survivors:
            tokens, parents, depths = [verified.sequence.tokens[-1]], [-1], [0]
            for _ in range(self.dice.randint(0, room)):
                parent = self.dice.randrange(len(tokens))
                if depths[parent] < verified.sequence.remaining - 1:
                    tokens.append(self.dice.randrange(END))
                    parents.append(parent)
                    depths.append(depths[parent] + 1)
            tree = TokenTree(tuple(tokens), tuple(parents))
            if len(tree.leaves) <= LEAVES:
                verified.slot.draft = tree
                room -= tree.n_drafts

    def _note_who_started(self) -> None:
        running = {slot.sequence for slot in self.scheduler.running}
        for index, customer in enumerate(self.customers):
            if customer.sequence in running and customer not in self.started:
                self.started.add(customer)
                for earlier in self.customers[:index]:
                    if not earlier.was_paused:
                        earlier.overtaken += earlier.sequence in self._never_ran

    @property
    def _never_ran(self) -> set[Sequence]:
        began = {customer.sequence for customer in self.started}
        return set(self.scheduler.waiting) - began

    def _check_plan(self, plan: StepPlan) -> None:
        n_plain = plan.n_prefilled - plan.n_scored
        n_tree_rows = sum(len(candidates.tree) for candidates in plan.trees)
        assert n_plain <= LARGEST
        assert plan.n_scored <= LARGEST_SCORED
        assert n_tree_rows <= self.n_slots + DRAFT_NODES
        slots = [chunk.slot for chunk in (*plan.prefill, *plan.scored)]
        assert len(set(slots)) == len(slots)
        slots += [candidates.slot for candidates in plan.trees]
        assert all(slot.adapters == plan.adapters for slot in slots)
        for chunk in (*plan.prefill, *plan.scored):
            assert chunk.start == len(chunk.slot.tokens)
            assert chunk.tokens
        for candidates in plan.trees:
            assert candidates.tree.tokens[0] == candidates.slot.sequence.tokens[-1]
            assert max(candidates.tree.depths) < max(1, candidates.slot.sequence.remaining)
        goes_on = plan.n_prefilled + n_tree_rows or self.prompts.is_reading
        assert goes_on or not self.scheduler.has_work, "nothing goes on"

    def _check_state(self) -> None:
        promised = 0
        for slot in self.slots:
            assert self.cache.text(slot.labels.primary) == slot.tokens
            assert len(slot.cells) == len(slot.tokens)
            if not slot.is_idle:
                assert slot.tokens == slot.sequence.tokens[: len(slot.tokens)]
                assert len(slot.tokens) < len(slot.sequence.tokens)
                promised += len(slot.sequence.tokens) - len(slot.tokens)
        assert self.prompts.stats.n_bytes <= self.prompts.limit
        claims = self.n_cells - self.scheduler.free_cells
        assert len(self.cache.cells) + promised == claims <= self.n_cells
        if self.is_plain:
            assert all(customer.overtaken <= MAX_PASSES for customer in self.customers)


def live(seed: int, *, is_plain: bool = True) -> World:
    """A world from its beginning until everybody has gone."""
    dice = random.Random(seed)
    world = World(dice, is_plain)
    for _ in range(dice.randint(1, 60)):
        if dice.random() < 0.5:
            world.arrive()
        if world.customers and dice.random() < 0.05:
            world.cancel()
        if world.customers and dice.random() < 0.2:
            world.pause()
        world.step()
    for customer in world.customers:
        customer.sequence.paused = False
    # Each round of turns brings the oldest one that runs a token further; who steps back begins
    # again.
    for _ in range(2 * TURN_STEPS * len(world.customers) * world.max_context):
        if not world.scheduler.has_work:
            break
        world.step()
    assert not world.scheduler.has_work, "somebody starves"
    return world


@given(seed=st.integers(0, 2**32), is_plain=st.booleans())
@settings(max_examples=60, deadline=None)
def test_whatever_happens_cells_labels_and_slots_agree_and_everybody_gets_an_answer(
    seed: int, is_plain: bool
) -> None:
    world = live(seed, is_plain=is_plain)
    for customer in world.customers:
        ends = [e for e in customer.events if isinstance(e, Finished | Failed)]
        assert len(ends) == (not customer.was_cancelled)
        assert not ends or customer.events[-1] is ends[0]
        if ends and isinstance(ends[0], Finished):
            scores = [e for e in customer.events if isinstance(e, PromptScored)]
            wanted = customer.sequence.request.prompt_logprobs is not None
            assert [len(e.logprobs) for e in scores] == (
                [len(customer.sequence.request.prompt)] if wanted else []
            )
            vectors = [e for e in customer.events if isinstance(e, Embedded)]
            assert len(vectors) == (customer.sequence.request.pooling is not None)


def test_the_worlds_are_cramped() -> None:
    """Or else the property above would say little."""
    worlds = [live(seed) for seed in range(10)]
    assert sum(world.stepped_back for world in worlds) > 10
    assert sum(world.restored for world in worlds) > 10


def test_after_a_failure_everything_is_forgotten_without_asking_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be what failed, and in the middle of a step, so that labels and tokens differ."""
    scheduler = make_scheduler(n_slots=2, n_cells=1000)
    one = sequence(range(100))
    scheduler.add([one])
    play(scheduler)
    slot_of(scheduler, one).labels.extend(1)

    def refuse(*_: int) -> None:
        raise DecodeError("no partial removal")

    monkeypatch.setattr(FakeCache, "remove_sequence", refuse)
    assert scheduler.abort() == [one]
    assert [slot.labels.length for slot in scheduler.slots] == [0, 0]
    assert [slot.tokens for slot in scheduler.slots] == [[], []]
    assert scheduler.free_cells == 1000
