"""A tree of the same shape at every step, as in the Medusa paper (Cai et al. 2024, 2.3.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medusa.speculation.heads.guessing import Heads
from medusa.speculation.sources.heads import ask_heads
from medusa.speculation.sources.source import HEADS, Draft, DraftRequest, DraftSource
from medusa.speculation.tree import Choice, StaticShape

Branches = Mapping[int, int]
"""The place below a place by the rank of the guess that leads there."""


@dataclass(frozen=True)
class FixedDraft:
    """A shape filled with the heads' guesses. A place is a choice of the shape, by its number.

    Every guess counts as certain, so that all are verified as far as the step's nodes reach.
    """

    branches: Sequence[Branches]  # of each place
    depths: Sequence[int]  # of each place
    tokens: Sequence[Sequence[int]]  # [n_heads][top_k]
    n_vocab: int
    source = HEADS

    def guesses(self, place: int) -> Mapping[int, float]:
        """As `Draft.guesses`."""
        return {token: 1.0 for token, _ in self._below(place)}

    def follow(self, place: int, token: int) -> int | None:
        """As `Draft.follow`."""
        return dict(self._below(place)).get(token)

    def _below(self, place: int) -> list[tuple[int, int]]:
        """(token, place) of the choices below that the heads can fill."""
        depth = self.depths[place]
        row = self.tokens[depth] if depth < len(self.tokens) else ()
        return [
            (row[rank], below)
            for rank, below in self.branches[place].items()
            if rank < len(row) and 0 <= row[rank] < self.n_vocab
        ]


class FixedSource(DraftSource):
    """Fills one shape for all requests.

    Args:
        heads: whose guesses.
        shape: which of them.
    """

    name = "fixed tree"
    runs_heads = True
    optional = False
    rests = False

    def __init__(self, heads: Heads, shape: StaticShape) -> None:
        self._heads = heads
        places: dict[Choice, int] = {(): 0}
        branches: list[dict[int, int]] = [{}]
        for choice in sorted(set(shape.choices), key=lambda choice: (len(choice), choice)):
            branches[places[choice[:-1]]][choice[-1]] = places[choice] = len(branches)
            branches.append({})
        self._branches = branches
        self._depths = [len(choice) for choice in places]

    def propose(self, requests: Sequence[DraftRequest]) -> Sequence[Draft | None]:
        """As `DraftSource.propose`."""
        n_vocab = self._heads.header.n_vocab
        return [
            FixedDraft(self._branches, self._depths, proposals.tokens.tolist(), n_vocab)
            for proposals in ask_heads(self._heads, requests)
        ]
