"""The KV cache as a cache of prefixes: which slot holds what, and whose cells give way.

Asks first and takes later: whoever is not admitted costs nobody anything.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from medusa.engine.cells import CellRuns, distinct
from medusa.engine.memory import MemoryRules
from medusa.engine.prefixes import PrefixKey, common_prefix
from medusa.engine.prompt_cache.cache import PromptCache
from medusa.engine.prompt_cache.shelf import Stored
from medusa.engine.slot import Slot


@dataclass(frozen=True)
class Placement:
    """A slot to run in, whose first `reused` cells it takes over, and who gives way.

    They are those of the slot `source`, or come from the prompt cache where there is a `stored`.
    """

    target: Slot
    source: Slot
    reused: int
    victims: tuple[Slot, ...]
    stored: Stored | None = None


class PrefixCache:
    """The cells of all slots.

    Args:
        slots: the places to run in.
        rules: what the model's memory allows.
        prompts: takes what slots lose, and gives it back.
    """

    def __init__(
        self, slots: Sequence[Slot], rules: MemoryRules, prompts: PromptCache | None = None
    ) -> None:
        self._slots = slots
        self._rules = rules
        self._prompts = prompts or PromptCache(rules, limit=0)
        self._ticks = 0

    @property
    def free_cells(self) -> int:
        """Cells that neither hold tokens nor are promised to a running sequence's."""
        return self._free_without(())

    def match(self, key: PrefixKey) -> tuple[Slot, int]:
        """The slot that most of a prefix can be had from, and how much."""
        lengths = [self._usable(slot, key) for slot in self._slots]
        best = max(range(len(lengths)), key=lengths.__getitem__)
        return self._slots[best], lengths[best]

    def place(self, key: PrefixKey, n_tokens: int, *, in_ram: bool = False) -> Placement | None:
        """Where a sequence could run, or None while there is no room. Changes nothing.

        Args:
            key: what of it may come from the cache.
            n_tokens: cells that it needs in all, those taken over included.
            in_ram: whether it cannot wait for what is on disk only.
        """
        source, reused = self.match(key)
        stored = self._prompts.find(key, reused, in_ram=in_ram)
        if stored is not None:
            n_cells = max(n_tokens, len(stored.entry.tokens))
            for target in self._targets(source, 0):
                victims = self._victims(target, target, 0, n_cells)
                if victims is not None:
                    return Placement(target, target, stored.usable, victims, stored)
        for target in self._targets(source, reused):
            taken = reused if target is source or self._shares(source) else 0
            victims = self._victims(target, source, taken, n_tokens)
            if victims is not None:
                return Placement(target, source if taken else target, taken, victims)
        return None

    def take(self, placement: Placement) -> None:
        """Give the target its prefix and drop what the victims hold."""
        target, source = placement.target, placement.source
        if placement.stored is not None:
            self._restore(target, placement.victims, placement.stored)
            return
        if target is source:
            self.give_up(target, placement.reused)
        else:
            self.give_up(target)
            target.share(source, placement.reused)
        for victim in placement.victims:
            self.give_up(victim)
        self.touch(source)
        self.touch(target)

    def make_room(self, cells: int) -> bool:
        """Drop cached tokens of idle slots until so many cells are free; False: not enough are."""
        if self.free_cells >= cells:
            return True
        for victim in self._idle_by_age():
            self.give_up(victim)
            if self.free_cells >= cells:
                return True
        return False

    def give_up(self, slot: Slot, kept: int = 0) -> None:
        """Keep the first tokens of a slot only; the prompt cache may have what is lost."""
        key = PrefixKey(slot.adapters, slot.tokens)
        elsewhere = [self._usable(other, key) for other in self._slots if other is not slot]
        self._prompts.keep(slot, covered=max([kept, *elsewhere]))
        slot.reuse(kept)

    def save_all(self) -> None:
        """Have the prompt cache keep what slots hold, the most recently used last."""
        for slot in sorted(self._slots, key=lambda slot: slot.last_used):
            self.give_up(slot)

    def drop_spoilt(self, slot: Slot) -> None:
        """Drop an idle slot's tokens and those of idle slots that share cells with it.

        Running ones that share cells go on: their own logits tell whether those are good.
        """
        cells = slot.cells
        for each in self._slots:
            shares = distinct([each.cells, cells]) < len(each.cells) + len(cells)
            if each.is_idle and shares:
                each.reuse(0)

    def touch(self, slot: Slot) -> None:
        """Note that a slot's cells are of use now: they give way last."""
        self._ticks += 1
        slot.last_used = self._ticks

    def _restore(self, target: Slot, victims: Sequence[Slot], stored: Stored) -> None:
        """Load a saved prompt into free cells. None of others' may be taken for it."""
        state = self._prompts.take(stored)  # before what it is loaded in place of needs the room
        for slot in (target, *victims):
            self.give_up(slot)
        for slot in self._slots:
            slot.labels.guard()
        self._prompts.restore(target, stored, state)
        self.touch(target)

    def _shares(self, source: Slot) -> bool:
        """Whether others can take over what a slot holds."""
        return self._rules.can_share and source.labels.can_be_copied

    def _usable(self, slot: Slot, key: PrefixKey) -> int:
        """How much of a prefix can be had from a slot."""
        rules = self._rules
        if slot.adapters != key.adapters or not (slot.is_idle or self._shares(slot)):
            return 0
        common = common_prefix(slot.tokens, key.tokens)
        first = slot.labels.first_position if rules.window and common else 0
        return rules.usable_prefix(common, len(slot.tokens), first)

    def _targets(self, source: Slot, reused: int) -> list[Slot]:
        """Idle slots to run in, the best first: who holds least of worth, or the source itself."""
        idle = [slot for slot in self._slots if slot.is_idle]
        if not idle:
            return []
        targets = [min(idle, key=lambda slot: (len(slot.tokens) > 0, slot.last_used))]
        if source.is_idle and reused:
            mostly_reused = 2 * reused >= len(source.tokens)
            targets.insert(0 if mostly_reused else 1, source)
        return targets

    def _victims(
        self, target: Slot, source: Slot, reused: int, n_tokens: int
    ) -> tuple[Slot, ...] | None:
        """The fewest idle slots, oldest first, without whose tokens there is room."""
        taken = source.cells.first(reused)
        candidates = [slot for slot in self._idle_by_age() if slot is not target]
        candidates.sort(key=lambda slot: reused > 0 and slot is source)  # of use right now
        for count in range(len(candidates) + 1):
            victims = candidates[:count]
            free = self._free_without({target, *victims}, taken)
            if free >= n_tokens - reused:
                return tuple(victims)
        return None

    def _free_without(self, dropped: Collection[Slot], *taken: CellRuns) -> int:
        """Cells that are free once some slots drop theirs and others are `taken`."""
        kept = [slot.cells for slot in self._slots if slot not in dropped]
        promised = sum(slot.unfilled_cells for slot in self._slots)
        return self._rules.n_cells - distinct([*kept, *taken]) - promised

    def _idle_by_age(self) -> list[Slot]:
        idle = [slot for slot in self._slots if slot.is_idle and slot.tokens]
        return sorted(idle, key=lambda slot: slot.last_used)
