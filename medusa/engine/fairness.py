"""Who goes next of those who wait: fair shares of tokens for tenants, priorities within. Pure.

Shares are kept by virtual token counters (Sheng et al., "Fairness in Serving Large Language
Models", OSDI 2024): what is computed for a tenant, divided by its weight, is added to its counter,
and the tenant with the smallest one goes next. Two that always have something waiting differ by no
more than the price of what runs at a time. A tenant that had nothing waiting joins at the smallest
counter of those that had, so nobody saves up credit by being idle.
"""

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

OUTPUT_PRICE = 2.0
"""What a generated token counts, where one of a prompt that is computed counts 1; the paper's."""

PATIENCE = 16
"""So many of a tenant's requests may go before the one that waits longest, whatever their priority;
then it is first."""


@dataclass(frozen=True)
class Tenant:
    """Whose tokens are counted together: while several want more than there is, each gets a share
    that is proportional to its weight. Tenants of the same name are the same.
    """

    name: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        assert self.weight > 0


EVERYBODY = Tenant()
"""Those of whom nothing is known."""


class FairQueue(Generic[Item]):
    """What waits to be served. Other threads than the owner's may ask for lengths."""

    def __init__(self) -> None:
        self._owners: dict[Item, Tenant] = {}  # of all that waits
        self._lines: dict[str, _Line[Item]] = {}  # of the tenants that have something waiting
        self._returned: list[Item] = []  # what goes before all lines
        self._spent: dict[str, float] = {}  # each tenant's counter
        self._last_to_leave = ""  # the tenant that ran out of waiting items last
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._owners)

    def __iter__(self) -> Iterator[Item]:
        """All that waits, in no order that matters."""
        return iter(self._owners)

    def waiting_of(self, tenant: Tenant) -> int:
        """How much one tenant has waiting."""
        line = self._lines.get(tenant.name)
        returned = [self._owners.get(item) for item in tuple(self._returned)]
        n_returned = sum(owner is not None and owner.name == tenant.name for owner in returned)
        return n_returned + (0 if line is None else len(line))

    def push(self, item: Item, tenant: Tenant, priority: int = 0) -> None:
        """Put an item at its place.

        Args:
            item: nothing that waits already.
            tenant: whose it is.
            priority: of its items the one with the least goes first.
        """
        if tenant.name not in self._lines:
            self._spent[tenant.name] = max(self._spent.get(tenant.name, 0.0), self._floor())
            self._lines[tenant.name] = _Line()
        self._lines[tenant.name].add(item, priority, next(self._numbers))
        self._owners[item] = tenant

    def put_back(self, item: Item, tenant: Tenant) -> None:
        """Put an item that was taken and paid for before all others."""
        self._returned.insert(0, item)
        self._owners[item] = tenant

    def in_turn(self) -> Iterator[Item]:
        """All that waits, the next one first.

        Items that were given out may be taken or removed, and tenants charged, before the next one
        is asked for; nothing may be added.
        """
        yield from tuple(self._returned)
        lines = {name: line.in_turn() for name, line in self._lines.items()}
        heads = {name: next(line) for name, line in lines.items()}
        while heads:
            name = min(heads, key=lambda each: (self._spent[each], heads[each][0]))
            yield heads[name][1]
            following = next(lines[name], None)
            if following is None:
                del heads[name]
            else:
                heads[name] = following

    def take(self, item: Item, *, read: int) -> None:
        """Remove an item that is served now.

        Args:
            item: one that waits.
            read: tokens of its prompt that are to be computed, which its tenant pays for unless
                the item was put back.
        """
        tenant = self._owners[item]
        if item in self._returned:
            self.remove(item)
            return
        self._lines[tenant.name].count_passing(item)
        self.remove(item)
        self.charge(tenant, read=read)

    def remove(self, item: Item) -> None:
        """Forget an item that waits."""
        name = self._owners.pop(item).name
        if item in self._returned:
            self._returned.remove(item)
            return
        self._lines[name].remove(item)
        if not len(self._lines[name]):
            del self._lines[name]
            self._last_to_leave = name

    def charge(self, tenant: Tenant, *, read: int = 0, written: int = 0) -> None:
        """Count tokens of prompts and of answers that are computed for a tenant."""
        price = (read + OUTPUT_PRICE * written) / tenant.weight
        self._spent[tenant.name] = self._spent.get(tenant.name, 0.0) + price

    def _floor(self) -> float:
        """The counter below which no tenant joins."""
        waiting = [self._spent[name] for name in self._lines]
        return min(waiting) if waiting else self._spent.get(self._last_to_leave, 0.0)


class _Line(Generic[Item]):
    """What one tenant has waiting, each with its number: the order of arrival."""

    def __init__(self) -> None:
        self._places: dict[Item, tuple[int, int]] = {}  # priority and number, by arrival
        self._sorted: list[tuple[int, int, Item]] = []  # by priority, then by arrival
        self._passed = 0  # how often others went before the one that waits longest

    def __len__(self) -> int:
        return len(self._places)

    def add(self, item: Item, priority: int, number: int) -> None:
        self._places[item] = (priority, number)
        insort(self._sorted, (priority, number, item))

    def remove(self, item: Item) -> None:
        place = self._places.pop(item)
        del self._sorted[bisect_left(self._sorted, place, key=lambda entry: entry[:2])]

    def count_passing(self, item: Item) -> None:
        """Note that an item is served now."""
        self._passed = 0 if item == self._oldest else self._passed + 1

    def in_turn(self) -> Iterator[tuple[int, Item]]:
        """Numbers and items, the next one first; see `FairQueue.in_turn`."""
        given: set[Item] = set()
        for _, number, item in tuple(self._sorted):
            if item in given:
                continue
            oldest = self._oldest
            if self._passed >= PATIENCE and oldest not in given:
                given.add(oldest)
                yield self._places[oldest][1], oldest
            if item not in given:
                given.add(item)
                yield number, item

    @property
    def _oldest(self) -> Item:
        return next(iter(self._places))
