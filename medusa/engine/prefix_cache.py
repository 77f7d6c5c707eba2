"""The KV cache as a cache of prefixes: which slot holds what, and whose cells give way.

Asks first and takes later: whoever is not admitted costs nobody anything.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from medusa.engine.cells import CellRuns, distinct
from medusa.engine.memory import MemoryRules
from medusa.engine.slot import Slot
from medusa.llama.adapters import AdapterSet


@dataclass(frozen=True)
class PrefixKey:
    """What cached cells must have been computed from to be good for a sequence."""

    adapters: AdapterSet
    tokens: list[int]


@dataclass(frozen=True)
class Placement:
    """A slot to run in, the one whose first `reused` cells it takes over, and who gives way."""

    target: Slot
    source: Slot
    reused: int
    victims: tuple[Slot, ...]


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


class PrefixCache:
    """The cells of all slots.

    Args:
        slots: the places to run in.
        rules: what the model's memory allows.
    """

    def __init__(self, slots: Sequence[Slot], rules: MemoryRules) -> None:
        self._slots = slots
        self._rules = rules
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

    def place(self, key: PrefixKey, n_tokens: int) -> Placement | None:
        """Where a sequence could run, or None while there is no room. Changes nothing.

        Args:
            key: what of it may come from the cache.
            n_tokens: cells that it needs in all, those taken over included.
        """
        source, reused = self.match(key)
        for target in self._targets(source, reused):
            taken = reused if target is source or self._shares(source) else 0
            victims = self._victims(target, source, taken, n_tokens)
            if victims is not None:
                return Placement(target, source if taken else target, taken, victims)
        return None

    def take(self, placement: Placement) -> None:
        """Give the target its prefix and drop what the victims hold."""
        target, source = placement.target, placement.source
        if target is source:
            target.reuse(placement.reused)
        else:
            target.share(source, placement.reused)
        for victim in placement.victims:
            victim.reuse(0)
        self.touch(source)
        self.touch(target)

    def make_room(self, cells: int) -> bool:
        """Drop cached tokens of idle slots until so many cells are free; False: not enough are."""
        for victim in self._idle_by_age():
            if self.free_cells >= cells:
                break
            victim.reuse(0)
        return self.free_cells >= cells

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
