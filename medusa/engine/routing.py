"""Which of several replicas of a model is to run a request. Pure: it knows prompts and loads.

A replica answers sooner where it holds the beginning of the prompt in its KV cache, so a request
goes where most of it is, unless that replica has clearly more to do than the others.
"""

import math
import random
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import count
from typing import Protocol, TypeVar

Replica = TypeVar("Replica", bound=Hashable)
"""What replicas go by."""

BLOCK = 32
"""Prompts are compared in blocks of so many tokens."""


class Router(Protocol):
    """Chooses replicas."""

    def choose(self, prompt: Sequence[int], loads: Mapping[Replica, int]) -> Replica:
        """The replica that is to run a request, which it does from then on.

        Args:
            prompt: its token ids.
            loads: requests that each replica there is runs or has waiting; at least one.
        """
        ...


class RandomChoice:
    """Any replica, whatever it holds or has to do.

    Args:
        seed: of the dice.
    """

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def choose(self, prompt: Sequence[int], loads: Mapping[Replica, int]) -> Replica:
        """See Router."""
        return self._dice.choice(list(loads))


class RoundRobin:
    """One replica after the other."""

    def __init__(self) -> None:
        self._numbers = count()

    def choose(self, prompt: Sequence[int], loads: Mapping[Replica, int]) -> Replica:
        """See Router."""
        return list(loads)[next(self._numbers) % len(loads)]


class PrefixAffinity:
    """The replica that holds most of the prompt, among those that are not too busy.

    What each holds is guessed by what it was sent last. Loads are bounded as with consistent
    hashing with bounded loads (Mirrokni et al., SODA 2018): nobody gets more than `imbalance` times
    the mean and `spare`, so that a prefix that everybody shares spreads over the replicas.

    Replicas may come and go; one that is not among those to choose from is forgotten.

    Args:
        held_tokens: about so many tokens stay in the cache of each.
        imbalance: at least 1.
        spare: requests that a replica may have more than that in any case.
    """

    def __init__(self, held_tokens: int, imbalance: float = 1.25, spare: int = 2) -> None:
        self._most = max(1, held_tokens // BLOCK)
        self._held: dict[Hashable, _Held] = {}
        self._imbalance = imbalance
        self._spare = spare

    def choose(self, prompt: Sequence[int], loads: Mapping[Replica, int]) -> Replica:
        """See Router."""
        blocks = list(_blocks(prompt))
        self._held = {each: self._held.get(each) or _Held(self._most) for each in loads}
        bound = math.ceil(self._imbalance * (sum(loads.values()) + 1) / len(loads)) + self._spare
        chosen = max(
            (replica for replica, load in loads.items() if load < bound),
            key=lambda replica: (self._held[replica].matched(blocks), -loads[replica]),
        )
        self._held[chosen].hold(blocks)
        return chosen


class _Held:
    """Blocks that a replica was sent, those of the last requests.

    Args:
        most: so many are remembered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._blocks: OrderedDict[int, None] = OrderedDict()  # the last used last

    def matched(self, blocks: Sequence[int]) -> int:
        """How many of a prompt's first blocks are there."""
        missing = (place for place, block in enumerate(blocks) if block not in self._blocks)
        return next(missing, len(blocks))

    def hold(self, blocks: Sequence[int]) -> None:
        """Remember a prompt's blocks; its last ones are forgotten first."""
        for block in reversed(blocks):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._most:
            self._blocks.popitem(last=False)


def _blocks(prompt: Sequence[int]) -> Iterator[int]:
    """A number for each whole block of a prompt, which stands for all before it too."""
    number = 0
    for end in range(BLOCK, len(prompt) + 1, BLOCK):
        number = hash((number, *prompt[end - BLOCK : end]))
        yield number
