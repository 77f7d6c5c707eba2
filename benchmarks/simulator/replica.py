"""A replica in virtual time: the real scheduler and the real drafter, and no model."""

import random

import numpy as np

from benchmarks.simulator.devices import Device
from benchmarks.simulator.guesses import Guesses, write
from medusa.engine.drafting import plan_drafts, teach
from medusa.engine.kv_labels import SlotLabels
from medusa.engine.memory import MemoryRules
from medusa.engine.pacer import PrefillPacer
from medusa.engine.plan import StepResult, Verified
from medusa.engine.requests import GenerationRequest
from medusa.engine.scheduler import Scheduler
from medusa.engine.sequence import Sequence
from medusa.engine.slot import Slot
from medusa.speculation.cost import MeasuredCost
from medusa.speculation.drafter import Drafter

DRAFT_NODES = 16
_MAX_STALL = 0.25  # seconds
_TYPICAL_CONTEXT = 256
_NO_LOGITS = np.zeros(1, np.float32)


class Replica:
    """A server's engine without its model.

    Args:
        device: what a step takes.
        dice: which guesses are right.
        speculate: whether there are any.
    """

    def __init__(self, device: Device, dice: random.Random, *, speculate: bool = True) -> None:
        self._device = device
        self._dice = dice
        self._scheduler = Scheduler(
            [Slot(SlotLabels(_NoLabels(), index, 1)) for index in range(device.n_slots)],
            MemoryRules(ids=1, n_cells=device.n_cells),
            PrefillPacer(_MAX_STALL, device.n_batch),
        )
        self._drafter: Drafter | None = None
        if speculate:
            measured = MeasuredCost.measure(
                lambda n_tokens: device.cost.seconds(n_tokens, _TYPICAL_CONTEXT),
                device.n_slots + DRAFT_NODES,
            )
            self._drafter = Drafter([Guesses()], measured, DRAFT_NODES)
        self._result: StepResult | None = None
        self.load = 0  # requests that run or wait
        self.prefilled = 0  # tokens of prompts that were computed
        self.rows = 0  # tokens that were decoded, guesses included

    @property
    def is_idle(self) -> bool:
        """Whether no step is under way though there is something to compute."""
        return self._result is None and self._scheduler.has_work

    def submit(self, sequence: Sequence) -> None:
        """Queue a request; it takes part in the next step that begins."""
        self.load += 1
        self._scheduler.add([sequence])

    def begin(self) -> float:
        """Begin a step; returns how many seconds it takes."""
        plan = self._scheduler.schedule()
        cost, self._result = self._device.cost, StepResult(plan)
        n_rows = sum(len(candidates.tree) for candidates in plan.trees)
        assert n_rows or plan.prefill, "nothing goes on"
        if plan.prefill:
            before = sum(chunk.start for chunk in plan.prefill)
            self._result.prefill_seconds = cost.seconds(plan.n_prefilled, before)
        if n_rows:
            before = sum(candidates.position for candidates in plan.trees)
            self._result.decode_seconds = cost.seconds(n_rows, before)
        self.prefilled += plan.n_prefilled
        self.rows += n_rows
        return self._result.prefill_seconds + self._result.decode_seconds

    def end(self) -> list[tuple[Sequence, int]]:
        """End the step; returns who has got how many tokens."""
        result, self._result = self._result, None
        assert result is not None, "no step is under way"
        got = []
        for candidates in result.plan.trees:
            slot, tree, sequence = candidates.slot, candidates.tree, candidates.slot.sequence
            tokens, path = write(tree, self._dice, sequence.remaining)
            for token in tokens:
                sequence.append(token, _NO_LOGITS, None)
            result.verified.append(Verified(slot, sequence, tree, path, None))
            got.append((sequence, len(tokens)))
            self.load -= sequence.is_complete
        self._scheduler.settle(result)
        plan_drafts(self._drafter, result)
        if self._drafter is not None:
            teach(self._drafter, result, 0.0, 0.0)
        return got


def sequence_of(request: GenerationRequest, arrived: float) -> Sequence:
    """A request that comes at a moment of the virtual time."""
    most = len(request.prompt) + (request.max_tokens or 0)
    sequence = Sequence(request, _NoVocabulary(), lambda _event: None, most)
    sequence.submitted = arrived
    return sequence


class _NoVocabulary:
    """Two tokens without a text."""

    pieces = (b"", b"")
    eog_tokens: frozenset[int] = frozenset()
    control_tokens: frozenset[int] = frozenset()


class _NoLabels:
    """The labels of a KV cache that does not exist."""

    def copy_sequence(self, src: int, dst: int, start: int, end: int) -> None:
        """See LabelStore."""

    def remove_sequence(self, seq: int, start: int, end: int = -1) -> None:
        """See LabelStore."""

    def first_position(self, seq: int) -> int:
        """See LabelStore."""
        return 0

    def sequence_bytes(self, seq: int) -> int:
        """See LabelStore."""
        return 0

    def save_sequence(self, seq: int) -> np.ndarray:
        """See LabelStore."""
        raise NotImplementedError

    def load_sequence(self, seq: int, state: np.ndarray) -> None:
        """See LabelStore."""
        raise NotImplementedError
