"""Between the engine and its drafters: who wants guesses, of which, and where they go."""

from collections import OrderedDict
from collections.abc import Callable

from medusa.engine.plan import StepResult
from medusa.engine.sequence import Sequence
from medusa.engine.slot import Slot
from medusa.llama.adapters import AdapterSet
from medusa.speculation.drafter import Drafted, Drafter
from medusa.speculation.sources.source import DraftRequest


class Drafters:
    """A drafter for each set of adapters: how often guesses are right, and what they cost, differs.

    Args:
        base: for the model as it is.
        make: makes one that has learnt nothing yet.
        most: sets that are remembered besides the base, those used last.
    """

    def __init__(self, base: Drafter, make: Callable[[], Drafter], most: int) -> None:
        self._base = base
        self._make = make
        self._most = most
        self._adapted: OrderedDict[AdapterSet, Drafter] = OrderedDict()

    def of(self, adapters: AdapterSet) -> Drafter:
        """The one that guesses for requests with these adapters."""
        if not adapters:
            return self._base
        if adapters not in self._adapted:
            self._adapted[adapters] = self._make()
        self._adapted.move_to_end(adapters)
        while len(self._adapted) > self._most:
            self._adapted.popitem(last=False)
        return self._adapted[adapters]


def plan_drafts(drafter: Drafter | None, result: StepResult) -> Drafted:
    """Tell the drafter what became of its guesses and give every slot that goes on new ones."""
    if drafter is None:
        return Drafted([], 0.0, 0)
    survivors = result.survivors
    for verified in survivors:
        sequence = verified.sequence
        drafter.observe(sequence, sequence.tokens[-len(verified.path) :])
    count = len(survivors)
    if count and drafter.rests(count) and not any(_brings_guesses(v.sequence) for v in survivors):
        return drafter.rest(count)
    drafted = drafter.draft(
        [
            DraftRequest(
                key=verified.sequence,
                tokens=verified.sequence.tokens,
                hidden=verified.hidden,
                max_leaves=verified.slot.labels.max_leaves,
                max_depth=min(verified.sequence.remaining - 1, verified.slot.labels.max_depth),
                constraint=verified.sequence.sampler.constraint,
                alignment=verified.sequence.output.alignment,
            )
            for verified in survivors
        ]
    )
    for verified, tree in zip(survivors, drafted.trees, strict=True):
        verified.slot.draft = tree
    return drafted


def _brings_guesses(sequence: Sequence) -> bool:
    """Whether something may be known of what comes next though guessing rests."""
    return sequence.sampler.constraint is not None or sequence.output.alignment is not None


def teach(drafter: Drafter, result: StepResult, heads_seconds: float, other_seconds: float) -> None:
    """Tell a drafter what a step took, as far as that says what a decode of its size takes.

    Args:
        drafter: that guessed for it.
        result: of the step.
        heads_seconds: of its guesses for the next one.
        other_seconds: what it spent beside llama.cpp and the heads.
    """
    if not result.verified:
        return
    decode_seconds = result.decode_seconds
    n_rows = result.plan.n_scored + sum(len(verified.tree) for verified in result.verified)
    if result.plan.n_prefilled or result.switched:
        drafter.note(n_rows)
    else:
        drafter.learn(n_rows, decode_seconds, other_seconds)
    if not (result.plan.n_scored or result.switched):
        n_emitted = sum(len(verified.path) for verified in result.verified)
        seconds = decode_seconds + heads_seconds + other_seconds
        drafter.compare(len(result.verified), n_emitted, seconds)


def cut_drafts(slots: list[Slot], *, alone: bool) -> None:
    """Make the whole decode have as many rows of each sequence.

    Else llama.cpp computes it in several pieces, in the later ones of which it may move the states
    of the earlier ones, but not their snapshots (`llama_memory_recurrent::find_slot`).

    Args:
        slots: who decodes, with chains of guesses.
        alone: whether the decode has no other rows.
    """
    n_rows = min((slot.n_rows for slot in slots), default=0) if alone else 1
    for slot in slots:
        if slot.draft is not None:
            slot.draft = slot.draft.first(n_rows)
