"""Who runs, where, and which rows of the next step are whose.

`schedule` makes the plan of a step, `settle` takes in what came of it. A request gets the slot
that already holds most of its prompt; when the KV cache is short, idle slots lose their cached
tokens first (least recently used first), then the youngest running request steps back to the head
of the queue and resumes later from its tokens. So does a paused one, until its owner wants more.
After a step that failed all do, and join the others again one at a time.
"""

from collections import deque
from collections.abc import Iterable

from medusa.engine.config import HEADROOM
from medusa.engine.memory import MemoryRules
from medusa.engine.pacer import PrefillPacer
from medusa.engine.plan import Candidates, Chunk, StepPlan, StepResult
from medusa.engine.policy import MAX_PASSES, WORTH_WAITING, arrival, by_arrival, share_prefill
from medusa.engine.prefix_cache import PrefixCache, PrefixKey, common_prefix
from medusa.engine.sequence import Sequence
from medusa.engine.slot import Slot


class _Waiting:
    """A request in the queue."""

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.passed = 0  # later ones that were admitted before it
        self.paused = sequence.paused  # when we last looked; any thread may change it


class Scheduler:
    """Queue and slots. Runs in the engine's thread.

    Args:
        slots: the places to run in.
        rules: what the model's memory allows.
        pacer: bounds prefill.
    """

    def __init__(self, slots: list[Slot], rules: MemoryRules, pacer: PrefillPacer) -> None:
        self.slots = slots
        for index, slot in enumerate(slots):
            slot.index = index
        self._rolls_back = rules.rollback > 0
        self._waits = rules.can_share and rules.can_truncate
        self._cache = PrefixCache(slots, rules)
        self._pacer = pacer
        self._waiting: deque[_Waiting] = deque()
        self._may_admit = False  # whether anything has changed since all who wait were refused

    @property
    def waiting(self) -> list[Sequence]:
        """Sequences in the queue, the next one first."""
        return [entry.sequence for entry in self._waiting]

    @property
    def n_waiting(self) -> int:
        """Length of the queue."""
        return len(self._waiting)

    @property
    def has_work(self) -> bool:
        """Whether anything runs, or waits for more than its owner."""
        waits = any(e.sequence.cancelled or not e.sequence.paused for e in self._waiting)
        return waits or any(not slot.is_idle for slot in self.slots)

    @property
    def running(self) -> list[Slot]:
        """Slots with a sequence, in slot order."""
        return [slot for slot in self.slots if not slot.is_idle]

    @property
    def free_cells(self) -> int:
        """Cells nobody has a claim to."""
        return self._cache.free_cells

    def add(self, sequences: Iterable[Sequence]) -> None:
        """Put sequences at the end of the queue."""
        for sequence in sequences:
            self._waiting.append(_Waiting(sequence))
            self._may_admit = True

    def schedule(self) -> StepPlan:
        """The next step: admit who fits, then give out its rows."""
        self._drop_cancelled()
        self._notice_pauses()
        self._admit()
        chunks = self._share_prefill(self._make_room())
        completing = {chunk.slot for chunk in chunks if chunk.completes}
        decoding = [
            slot
            for slot in self.running
            if slot.sequence.finish_reason is None
            and (slot in completing or not slot.is_prefilling)
        ]
        if self._rolls_back:
            _cut_drafts(decoding, alone=not any(chunk.scored for chunk in chunks))
        return StepPlan(
            prefill=tuple(chunk for chunk in chunks if not chunk.scored),
            scored=tuple(chunk for chunk in chunks if chunk.scored),
            trees=tuple(
                Candidates(slot, len(slot.sequence.tokens) - 1, slot.tree) for slot in decoding
            ),
        )

    def settle(self, result: StepResult) -> None:
        """Keep the cells of what was computed and accepted; end who has finished or failed."""
        plan = result.plan
        if plan.prefill:
            n_plain = plan.n_prefilled - plan.n_scored
            self._pacer.observe(n_plain, result.prefill_seconds)
        if plan.scored:
            seconds = result.decode_seconds + result.score_seconds
            self._pacer.observe(plan.n_scored, seconds, scored=True)
        for chunk in (*plan.prefill, *plan.scored):
            chunk.slot.prefilled(chunk.tokens)
            self._may_admit = True
        for verified in result.verified:
            verified.slot.settle(verified.tree, verified.path)
            self._may_admit |= verified.sequence.is_suspect
            verified.sequence.is_suspect = False
        for slot in self.running:
            if slot in result.failed or slot.sequence.is_complete:
                self._finish(slot)
        for slot in result.spoilt:
            self._cache.drop_spoilt(slot)

    def put_back(self, sequences: Iterable[Sequence]) -> None:
        """Put sequences that have run at the head of the queue, the oldest first."""
        ordered = sorted(sequences, key=arrival, reverse=True)
        self._waiting.extendleft(map(_Waiting, ordered))
        self._may_admit = True

    def erase(self, index: int) -> int:
        """Forget the cached tokens of an idle slot; returns how many there were."""
        slot = self.slots[index]
        n_tokens = len(slot.tokens)
        slot.reuse(0)
        self._may_admit = True
        return n_tokens

    def abort(self) -> list[Sequence]:
        """Forget all running sequences and all cached tokens; returns what ran.

        The KV cache is not asked, as it may be what failed: it must be cleared or freed.
        """
        stopped = [slot.release() for slot in self.running]
        for slot in self.slots:
            slot.forget()
        self._may_admit = True
        return stopped

    def _drop_cancelled(self) -> None:
        """Forget sequences that nobody wants any more, waiting or running."""
        if any(entry.sequence.cancelled for entry in self._waiting):
            self._waiting = deque(e for e in self._waiting if not e.sequence.cancelled)
            self._may_admit = True
        for slot in self.running:
            if slot.sequence.cancelled:
                self._finish(slot)

    def _notice_pauses(self) -> None:
        """Give the slots of paused sequences to others; their cells stay as long as they can."""
        for entry in self._waiting:
            self._may_admit |= entry.paused and not entry.sequence.paused
            entry.paused = entry.sequence.paused
        for slot in self.running:
            if slot.sequence.paused:
                self._waiting.appendleft(_Waiting(slot.sequence))
                self._finish(slot)

    def _admit(self) -> None:
        """Move waiting sequences into idle slots, in order, as long as slots and cells allow.

        Who fits may pass those before that do not, each of which is passed so many times at most.
        """
        blocked: list[_Waiting] = []
        for entry in list(self._waiting) if self._may_admit else ():
            if len(self.running) == len(self.slots):
                return
            if any(slot.sequence.is_suspect for slot in self.running):
                break  # should the step fail, it is known whose fault that is
            if entry.paused:
                continue
            try:
                started = self._start(entry.sequence)
            except Exception as error:  # else it would be tried again, and fail again, for ever
                self._waiting.remove(entry)
                entry.sequence.output.fail(error)
                raise
            if started:
                self._waiting.remove(entry)
                for earlier in blocked:
                    earlier.passed += 1
            else:
                blocked.append(entry)
            if len(blocked) > MAX_PASSES or any(e.passed >= MAX_PASSES for e in blocked):
                break
        self._may_admit = False

    def _start(self, sequence: Sequence) -> bool:
        """Run a sequence if there is room, and nothing that is worth waiting for."""
        key = PrefixKey(sequence.adapter, sequence.tokens[: sequence.n_reusable])
        placement = self._cache.place(key, len(sequence.tokens) + HEADROOM)
        if placement is None or self._worth_waiting(key, placement.reused):
            return False
        self._cache.take(placement)
        placement.target.start(sequence)
        return True

    def _worth_waiting(self, key: PrefixKey, reused: int) -> bool:
        """Whether a slot is prefilling a prompt that shares much more than is cached now."""
        return self._waits and any(
            slot.is_prefilling
            and slot.adapter == key.adapter
            and common_prefix(slot.sequence.tokens[:-1], key.tokens) >= reused + WORTH_WAITING
            for slot in self.slots
        )

    def _make_room(self) -> list[Slot]:
        """Free cells for this step's trees, at the expense of whoever can wait.

        The oldest running sequence is never stopped, so it always ends.

        Returns:
            Who goes on, the oldest first.
        """
        running = by_arrival(self.running)
        while not self._cache.make_room(sum(slot.n_rows for slot in running)):
            if len(running) <= 1:
                break
            youngest = running.pop()
            self._waiting.appendleft(_Waiting(youngest.release()))
            youngest.reuse(0)
            self._may_admit = True
        return running

    def _share_prefill(self, running: list[Slot]) -> list[Chunk]:
        """Pieces of prompts for this step, in slot order.

        Args:
            running: who goes on, the oldest first.
        """
        prefilling = [slot for slot in running if slot.is_prefilling]
        if not prefilling:
            return []
        others_decode = len(prefilling) < len(running)
        kinds: dict[bool, list[Slot]] = {False: [], True: []}
        for slot in prefilling:
            kinds[len(slot.tokens) >= slot.sequence.n_reusable].append(slot)
        part = 1.0 / max(1, sum(map(bool, kinds.values())))
        chunks = []
        for scored, slots in kinds.items():
            budget = self._pacer.budget(others_decode=others_decode, scored=scored, part=part)
            missing = [_missing(slot, scored=scored) for slot in slots]
            for slot, share in zip(slots, share_prefill(missing, budget), strict=True):
                if share:
                    start = len(slot.tokens)
                    tokens = slot.sequence.tokens[start : start + share]
                    completes = start + share == slot.sequence.n_prefill
                    chunks.append(Chunk(slot, start, tokens, scored, completes))
        chunks.sort(key=lambda chunk: chunk.slot.labels.primary)
        return chunks

    def _finish(self, slot: Slot) -> None:
        """Free a slot whose sequence ended; its cells stay for prefix reuse."""
        slot.release()
        self._cache.touch(slot)
        self._may_admit = True


def _cut_drafts(slots: list[Slot], *, alone: bool) -> None:
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


def _missing(slot: Slot, *, scored: bool) -> int:
    """Tokens to prefill next, of one kind."""
    sequence = slot.sequence
    end = sequence.n_prefill if scored else sequence.n_reusable
    return end - len(slot.tokens)
