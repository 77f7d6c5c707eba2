"""Who runs, where, and which rows of the next step are whose.

`schedule` makes the plan of a step, `settle` takes in what came of it. A request gets the slot
that already holds most of its prompt; when the KV cache is short, idle slots lose their cached
tokens first (least recently used first), then the youngest running request steps back to the head
of the queue and resumes later from its tokens. So does a paused one, until its owner wants more.
After a step that failed all do, and join the others again one at a time.
"""

from collections.abc import Iterable

from medusa.engine.config import HEADROOM
from medusa.engine.drafting import cut_drafts
from medusa.engine.memory import MemoryRules
from medusa.engine.pacer import PrefillPacer
from medusa.engine.plan import Candidates, Chunk, StepPlan, StepResult
from medusa.engine.policy import MAX_PASSES, by_arrival, is_worth_waiting, share_prefill
from medusa.engine.prefix_cache import PrefixCache
from medusa.engine.prefixes import PrefixKey
from medusa.engine.prompt_cache.cache import PromptCache
from medusa.engine.sequence import Sequence
from medusa.engine.slot import Slot
from medusa.engine.turns import Turns
from medusa.engine.waiting import Waiting, WaitingQueue
from medusa.llama.adapters import AdapterSet


class Scheduler:
    """Queue and slots. Runs in the engine's thread.

    Args:
        slots: the places to run in.
        rules: what the model's memory allows.
        pacer: bounds prefill.
        prompts: keeps what slots lose.

    Attributes:
        queue: who waits.
    """

    def __init__(
        self,
        slots: list[Slot],
        rules: MemoryRules,
        pacer: PrefillPacer,
        prompts: PromptCache | None = None,
    ) -> None:
        self.slots = slots
        for index, slot in enumerate(slots):
            slot.index = index
        self._rolls_back = rules.rollback > 0
        self._waits = rules.can_share and rules.can_truncate
        self._prompts = prompts or PromptCache(rules, limit=0)
        self._cache = PrefixCache(slots, rules, self._prompts)
        self._pacer = pacer
        self.queue = WaitingQueue()
        self._turns = Turns()
        self._may_admit = False  # whether anything has changed since all who wait were refused

    @property
    def waiting(self) -> list[Sequence]:
        """Sequences in the queue, the next one first."""
        return [entry.sequence for entry in self.queue.in_turn()]

    @property
    def has_work(self) -> bool:
        """Whether anything runs, or waits for more than its owner or the disk."""
        for_disk = self._prompts.is_waiting and not self._may_admit
        waits = any(e.sequence.cancelled or not (e.sequence.paused or for_disk) for e in self.queue)
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
        """Queue sequences that have not run yet."""
        n_waiting = len(self.queue)
        self.queue.add(sequences)
        self._may_admit |= len(self.queue) > n_waiting

    def schedule(self) -> StepPlan:
        """The next step: admit who fits, then give out its rows."""
        self._may_admit |= self._prompts.begin_step(busy=bool(self.running))
        self._drop_cancelled()
        self._notice_pauses()
        self._admit()
        running = self._make_room()
        self._turns = self._turns.next(slot.adapters for slot in running)
        adapters = self._turns.current
        chunks = self._share_prefill(running, adapters)
        completing = {chunk.slot for chunk in chunks if chunk.completes}
        decoding = [
            slot
            for slot in self.running
            if slot.adapters == adapters
            and slot.sequence.finish_reason is None
            and (slot in completing or not slot.is_prefilling)
        ]
        if self._rolls_back:
            cut_drafts(decoding, alone=not any(chunk.scored for chunk in chunks))
        return StepPlan(
            restored=self._prompts.take_restored(),
            prefill=tuple(chunk for chunk in chunks if not chunk.scored),
            scored=tuple(chunk for chunk in chunks if chunk.scored),
            trees=tuple(
                Candidates(slot, len(slot.sequence.tokens) - 1, slot.tree) for slot in decoding
            ),
            adapters=adapters,
        )

    def settle(self, result: StepResult) -> None:
        """Keep the cells of what was computed and accepted; end who has finished or failed."""
        plan = result.plan
        self._turns = self._turns.used(prefilled=plan.n_prefilled > 0)
        if plan.prefill:
            self._pacer.observe(plan.n_prefilled - plan.n_scored, result.prefill_seconds)
        if plan.scored:
            seconds = result.decode_seconds + result.score_seconds
            self._pacer.observe(plan.n_scored, seconds, scored=True)
        for chunk in (*plan.prefill, *plan.scored):
            chunk.slot.prefilled(chunk.tokens)
            self._may_admit = True
        for verified in result.verified:
            verified.slot.settle(verified.tree, verified.path)
            tenant = verified.sequence.request.tenant
            self.queue.charge(tenant, written=len(verified.path))
            self._may_admit |= verified.sequence.is_suspect
            verified.sequence.is_suspect = False
        for slot in self.running:
            if slot in result.failed or slot.sequence.is_complete:
                self._finish(slot)
        for slot in result.spoilt:
            self._cache.drop_spoilt(slot)

    def put_back(self, sequences: Iterable[Sequence]) -> None:
        """Put sequences that have run at the head of the queue, the oldest first."""
        self.queue.return_first(*sequences)
        self._may_admit = True

    def save_all(self) -> None:
        """Have the prompt cache keep what all slots hold; nothing runs after that."""
        self._cache.save_all()

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
        self._may_admit |= self.queue.drop_cancelled()
        for slot in self.running:
            if slot.sequence.cancelled:
                self._finish(slot)

    def _notice_pauses(self) -> None:
        """Give the slots of paused sequences to others; their cells stay as long as they can."""
        self._may_admit |= self.queue.notice_pauses()
        for slot in self.running:
            if slot.sequence.paused:
                self.queue.return_first(slot.sequence)
                self._finish(slot)

    def _admit(self) -> None:
        """Move waiting sequences into idle slots, in order, as long as slots and cells allow.

        Who fits may pass those before that do not, each of which is passed so many times at most.
        """
        blocked: list[Waiting] = []
        for entry in self.queue.in_turn() if self._may_admit else ():
            if len(self.running) == len(self.slots):
                return
            if any(slot.sequence.is_suspect for slot in self.running):
                break  # should the step fail, it is known whose fault that is
            if entry.paused:
                continue
            try:
                started = self._start(entry)
            except Exception as error:  # else it would be tried again, and fail again, for ever
                self.queue.remove(entry)
                entry.sequence.output.fail(error)
                raise
            if started:
                for earlier in blocked:
                    earlier.passed += 1
            else:
                blocked.append(entry)
            if len(blocked) > MAX_PASSES or any(e.passed >= MAX_PASSES for e in blocked):
                break
        self._may_admit = False

    def _start(self, entry: Waiting) -> bool:
        """Run a sequence if there is room, and nothing that is worth waiting for."""
        sequence = entry.sequence
        key = PrefixKey(sequence.adapters, sequence.tokens[: sequence.n_reusable])
        n_cells = len(sequence.tokens) + HEADROOM
        placement = self._cache.place(key, n_cells, in_ram=not entry.waits_for_disk)
        if placement is None:
            return False
        if self._waits and is_worth_waiting(key, placement.reused, self.slots):
            return False
        stored = placement.stored
        if stored is not None and not self._prompts.is_ready(stored):
            entry.waits_for_disk = not self._prompts.is_loading(stored)
            return False
        self._cache.take(placement)
        placement.target.start(sequence)
        self.queue.take(entry, read=len(sequence.tokens) - placement.reused)
        return True

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
            self.queue.return_first(youngest.release())
            self._cache.give_up(youngest)
            self._may_admit = True
        return running

    def _share_prefill(self, running: list[Slot], adapters: AdapterSet) -> list[Chunk]:
        """Pieces of prompts for this step, in slot order.

        Args:
            running: who goes on, the oldest first.
            adapters: with which the step computes.
        """
        prefilling = [s for s in running if s.is_prefilling and s.adapters == adapters]
        others_decode = not all(slot.is_prefilling for slot in running)
        kinds: dict[bool, list[Slot]] = {False: [], True: []}
        for slot in prefilling:
            kinds[len(slot.tokens) >= slot.sequence.n_reusable].append(slot)
        part = 1.0 / max(1, sum(map(bool, kinds.values())))
        chunks = []
        for scored, slots in kinds.items():
            budget = self._pacer.budget(others_decode=others_decode, scored=scored, part=part)
            missing = [slot.missing(scored=scored) for slot in slots]
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
