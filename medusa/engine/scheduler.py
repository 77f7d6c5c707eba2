"""Who runs, where, and how much of which prompt is prefilled next.

First come, first served. A request gets the slot that already holds most of its prompt; when the
KV cache is short, idle slots lose their cached tokens first (least recently used first), then the
youngest running request steps back to the head of the queue and resumes later from its tokens.
"""

from collections import deque
from collections.abc import Sequence, Set
from dataclasses import dataclass

from medusa.engine.sequence import Generation
from medusa.engine.slot import Slot

_WORTH_WAITING = 32
"""Tokens of a prompt that another slot is prefilling right now from which on it pays to wait for
that slot and share its cells."""

HEADROOM = 64
"""Free cells asked for beyond a request's tokens at admission, so that it can run for a while."""


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix, by bisection on slice equality."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass
class PrefillPacer:
    """Bounds how long a prefill may keep running requests waiting.

    max_stall: seconds one prefill may take while others decode.
    largest, smallest: bounds of a chunk, in tokens.
    """

    max_stall: float
    largest: int
    smallest: int = 8
    tokens_per_second: float = 250.0

    def budget(self, *, others_decode: bool) -> int:
        """Prompt tokens to prefill in this step."""
        if not others_decode:
            return self.largest
        affordable = int(self.tokens_per_second * self.max_stall)
        return max(self.smallest, min(self.largest, affordable))

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn the speed from a prefill that was run (exponentially weighted)."""
        if tokens >= self.smallest and seconds > 0:
            self.tokens_per_second += 0.3 * (tokens / seconds - self.tokens_per_second)


@dataclass(frozen=True)
class Placement:
    """A slot to run in, and the slot whose first `reusable` cached tokens are taken over."""

    target: Slot
    source: Slot
    reusable: int


@dataclass(frozen=True)
class Chunk:
    """A piece of a prompt to prefill."""

    slot: Slot
    tokens: Sequence[int]


class Scheduler:
    """Queue, slots and the budget of KV cells. Runs in the engine's thread.

    Args:
        slots: the places to run in.
        n_cells: size of the KV cache in tokens.
    """

    def __init__(self, slots: Sequence[Slot], n_cells: int) -> None:
        self.slots = slots
        self.waiting: deque[Generation] = deque()
        self._n_cells = n_cells
        self._clock = 0

    @property
    def running(self) -> list[Slot]:
        """Slots with a request, in slot order."""
        return [slot for slot in self.slots if not slot.is_idle]

    @property
    def decoding(self) -> list[Slot]:
        """Slots that take part in the next decode."""
        return [slot for slot in self.slots if slot.is_decoding]

    @property
    def prefilling(self) -> list[Slot]:
        """Slots whose prompt is not in the KV cache yet."""
        return [slot for slot in self.slots if slot.is_prefilling]

    @property
    def free_cells(self) -> int:
        """Cells nobody has a claim to; shared ones count for each slot, which errs low."""
        return self._n_cells - sum(slot.claimed_cells for slot in self.slots)

    def admit(self) -> None:
        """Move waiting requests into idle slots, in order, as long as slots and cells allow."""
        while self.waiting and self._idle:
            placement = self._place(self.waiting[0])
            if placement is None:
                return
            self._start(self.waiting.popleft(), placement)

    def plan_prefill(self, budget: int) -> list[Chunk]:
        """Pieces of prompts for this step, oldest request first, `budget` tokens at most.

        Prompts that need logits are left out; see `Generation.wants_prompt_logprobs`.
        """
        chunks = []
        for slot in self._oldest_first():
            scored = slot.generation.wants_prompt_logprobs
            if slot.is_prefilling and not scored and budget > 0:
                tokens = slot.to_prefill[:budget]
                if tokens:
                    chunks.append(Chunk(slot, tokens))
                    budget -= len(tokens)
        return chunks

    def make_room(self, cells: int) -> None:
        """Free cells for the next decode or prefill, at the expense of whoever can wait.

        The oldest running request is never stopped, so it always ends.
        """
        while not self._evict_until(cells):
            running = self._oldest_first()
            if len(running) <= 1:
                return
            youngest = running[-1]
            self.waiting.appendleft(youngest.release())
            youngest.reuse(0)

    def drop_cancelled(self) -> None:
        """Forget requests that nobody wants any more, waiting or running."""
        if any(generation.cancelled for generation in self.waiting):
            self.waiting = deque(g for g in self.waiting if not g.cancelled)
        for slot in self.running:
            if slot.generation.cancelled:
                self.finish(slot)

    def reset(self) -> list[Generation]:
        """Forget all running requests and all cached tokens; returns what ran."""
        stopped = [slot.release() for slot in self.running]
        for slot in self.slots:
            slot.reuse(0)
        return stopped

    def finish(self, slot: Slot) -> None:
        """Free a slot whose request ended; its cells stay for prefix reuse."""
        slot.release()
        self._touch(slot)

    def _place(self, generation: Generation) -> Placement | None:
        """Where the request runs and which cached prefix it takes over; None: it has to wait."""
        wanted = generation.tokens[:-1]
        if generation.wants_prompt_logprobs:
            wanted = []
        source = max(self.slots, key=lambda slot: common_prefix(slot.tokens, wanted))
        reusable = common_prefix(source.tokens, wanted)
        if self._worth_waiting(wanted, reusable):
            return None
        targets = [min(self._idle, key=lambda slot: (len(slot.tokens) > 0, slot.last_used))]
        if source.is_idle and reusable:
            mostly_reused = 2 * reusable >= len(source.tokens)
            targets.insert(0 if mostly_reused else 1, source)
        for target in targets:
            needed = len(generation.tokens) + HEADROOM - len(target.tokens)
            keep = {source, target} if reusable else {target}
            if self._evict_until(needed, keep):
                return Placement(target, source if reusable else target, reusable)
        return None

    def _start(self, generation: Generation, placement: Placement) -> None:
        target, source = placement.target, placement.source
        if target is source:
            target.reuse(placement.reusable)
        else:
            target.share(source, placement.reusable)
        target.start(generation)
        self._touch(source)
        self._touch(target)

    def _worth_waiting(self, wanted: Sequence[int], reusable: int) -> bool:
        """Whether a slot is prefilling a prompt that shares much more than is cached now."""
        return any(
            slot.is_prefilling
            and common_prefix(slot.generation.tokens[:-1], wanted) >= reusable + _WORTH_WAITING
            for slot in self.slots
        )

    @property
    def _idle(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.is_idle]

    def _evict_until(self, cells: int, keep: Set[Slot] = frozenset()) -> bool:
        """Drop cached tokens of idle slots, least recently used first, until `cells` are free."""
        evictable = [slot for slot in self._idle if slot.tokens and slot not in keep]
        for slot in sorted(evictable, key=lambda slot: slot.last_used):
            if self.free_cells >= cells:
                break
            slot.reuse(0)
        return self.free_cells >= cells

    def _oldest_first(self) -> list[Slot]:
        return sorted(self.running, key=lambda slot: slot.generation.submitted)

    def _touch(self, slot: Slot) -> None:
        self._clock += 1
        slot.last_used = self._clock
