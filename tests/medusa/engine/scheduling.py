"""A scheduler without a model: sequences of numbers, and steps that compute nothing."""

from collections.abc import Sequence as Tokens

import numpy as np

from medusa.engine.kv_labels import SlotLabels
from medusa.engine.memory import MemoryRules
from medusa.engine.pacer import PrefillPacer
from medusa.engine.plan import StepPlan, StepResult, Verified
from medusa.engine.requests import GenerationRequest
from medusa.engine.scheduler import Scheduler
from medusa.engine.sequence import Sequence
from medusa.engine.slot import Slot
from medusa.llama.adapters import Applied
from tests.medusa.engine.test_kv_labels import FakeCache

POET = (Applied(0, 1.0),)
NOTHING = np.zeros(1, np.float32)


class FakeVocabulary:
    pieces = [b"x"] * 100_000
    eog_tokens: frozenset[int] = frozenset()
    control_tokens: frozenset[int] = frozenset()


def sequence(tokens: Tokens[int], **fields: object) -> Sequence:
    request = GenerationRequest(prompt=tuple(tokens), **fields)  # type: ignore[arg-type]
    return Sequence(request, FakeVocabulary(), lambda _event: None, 10_000)


def make_slots(count: int) -> list[Slot]:
    cache = FakeCache()
    return [Slot(SlotLabels(cache, index, 1)) for index in range(count)]


def make_scheduler(n_slots: int, n_cells: int, pacer: PrefillPacer | None = None) -> Scheduler:
    rules = MemoryRules(1, n_cells)
    return Scheduler(make_slots(n_slots), rules, pacer or PrefillPacer(1.0, largest=10_000))


def play(scheduler: Scheduler) -> StepPlan:
    """One step in which every decoding sequence gets a token."""
    plan = scheduler.schedule()
    result = StepResult(plan)
    for chunk in plan.scored:
        logits = np.zeros((len(chunk.tokens), 100_000), np.float32)
        chunk.slot.sequence.output.score(logits)
    for candidates in plan.trees:
        running = candidates.slot.sequence
        running.append(7, NOTHING, NOTHING)
        result.verified.append(Verified(candidates.slot, running, candidates.tree, [0], NOTHING))
    scheduler.settle(result)
    return plan


def running(scheduler: Scheduler) -> list[Sequence]:
    return [slot.sequence for slot in scheduler.running]


def slot_of(scheduler: Scheduler, wanted: Sequence) -> Slot:
    (slot,) = [s for s in scheduler.running if s.sequence is wanted]
    return slot


def end(scheduler: Scheduler, wanted: Sequence) -> Slot:
    """Let a running sequence end at the next step."""
    slot = slot_of(scheduler, wanted)
    wanted.max_tokens = wanted.n_generated + 1
    play(scheduler)
    assert slot.is_idle
    return slot


def run_to_end(scheduler: Scheduler, wanted: Sequence) -> Slot:
    """Admit, prefill and finish a sequence that is next in line; one token is generated."""
    wanted.max_tokens = 1
    scheduler.add([wanted])
    plan = play(scheduler)
    (slot,) = [c.slot for c in plan.trees if c.tree.tokens[0] == wanted.request.prompt[-1]]
    assert slot.is_idle
    return slot
