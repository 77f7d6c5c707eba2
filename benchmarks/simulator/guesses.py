"""Guesses that are right as often as heads are, and a model that agrees with them as often."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medusa.speculation.sources.source import HEADS, DraftRequest, DraftSource
from medusa.speculation.tree import TokenTree

RIGHT, OTHER = 1, 0
"""The token that heads guess, and the one that the model writes where they are wrong."""

ACCURACY = (0.509, 0.445, 0.417)
"""How often the shipped heads' best guesses are right (docs/measurements/heads.md)."""


@dataclass(frozen=True)
class Chain:
    """A draft of one guess after the other; a place is how many came before."""

    source: str = HEADS

    def guesses(self, place: int) -> Mapping[int, float]:
        """See Draft."""
        return {RIGHT: ACCURACY[place]}

    def follow(self, place: int, token: int) -> int | None:
        """See Draft."""
        return place + 1 if token == RIGHT and place + 1 < len(ACCURACY) else None


class Guesses(DraftSource):
    """The same chain for every request."""

    name = HEADS
    runs_heads = False  # their time is part of no cost here
    optional = False
    rests = True

    def propose(self, requests: Sequence[DraftRequest]) -> Sequence[Chain]:
        """See DraftSource."""
        return [Chain()] * len(requests)


def write(tree: TokenTree, dice: random.Random, most: int) -> tuple[list[int], list[int]]:
    """What a model writes that verifies a tree: up to `most` tokens, and the accepted nodes."""
    tokens: list[int] = []
    path = [0]
    while True:
        depth = len(tokens)
        is_right = depth < len(ACCURACY) and dice.random() < ACCURACY[depth]
        tokens.append(RIGHT if is_right else OTHER)
        child = tree.child(path[-1], tokens[-1])
        if child is None or len(tokens) == most:
            return tokens, path
        path.append(child)
