"""Guesses of the Medusa heads, as likely as they proved to be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from medusa.speculation.calibration import Calibration
from medusa.speculation.heads.guessing import Heads, Proposals
from medusa.speculation.heads.header import Variant
from medusa.speculation.sources.source import HEADS, Draft, DraftRequest, DraftSource


def ask_heads(heads: Heads, requests: Sequence[DraftRequest]) -> list[Proposals]:
    """What the heads guess for each request, all in one call."""
    states = [request.hidden for request in requests if request.hidden is not None]
    return heads.propose(
        np.stack(states),
        np.array([request.tokens[-1] for request in requests], np.int32),
    )


@dataclass(frozen=True)
class HeadsDraft:
    """What the heads guess for one request. A place is a depth."""

    levels: Sequence[Mapping[int, float]]  # of each head, tokens and their chances
    chain: Sequence[int] | None = None
    """The heads' best guesses, where a head's guesses hold below those of the heads before it
    only (Hydra); None where they hold whatever comes before."""
    source = HEADS

    def guesses(self, place: int) -> Mapping[int, float]:
        """As `Draft.guesses`."""
        return self.levels[place]

    def follow(self, place: int, token: int) -> int | None:
        """As `Draft.follow`."""
        below = place + 1
        if below == len(self.levels) or (self.chain is not None and self.chain[place] != token):
            return None
        return below


class HeadsSource(DraftSource):
    """Asks the heads for all requests at once.

    Args:
        heads: any variant.
    """

    name = HEADS
    runs_heads = True
    optional = True
    rests = True

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self._chained = heads.header.variant is Variant.HYDRA
        self._calibration: Calibration | None = None
        self._open: WeakKeyDictionary[object, _Guessed] = WeakKeyDictionary()

    def propose(self, requests: Sequence[DraftRequest]) -> Sequence[Draft | None]:
        """As `DraftSource.propose`; tokens outside the vocabulary are left out."""
        drafts = []
        for request, proposals in zip(requests, ask_heads(self._heads, requests), strict=True):
            guessed = _Guessed(proposals.tokens.tolist(), proposals.probs.tolist())
            drafts.append(self._draft(guessed))
            if request.constraint is None:  # whose bans would count as wrong guesses
                self._open[request.key] = guessed
        return drafts

    def observe(self, key: object, accepted: Sequence[int]) -> None:
        """As `DraftSource.observe`."""
        guessed = self._open.pop(key, None)
        if guessed is None:
            return
        calibration = self._calibrated(guessed)
        for head, (tokens, probs, token) in enumerate(
            zip(guessed.tokens, guessed.probs, accepted, strict=False)
        ):
            right = tokens.index(token) if token in tokens else None
            calibration.observe(head, probs, right)
            if self._chained and right != 0:
                return

    def _draft(self, guessed: "_Guessed") -> HeadsDraft:
        n_vocab = self._heads.header.n_vocab
        chances = self._calibrated(guessed).estimate(guessed.probs)
        levels = [
            {token: chance for token, chance in zip(*level, strict=True) if 0 <= token < n_vocab}
            for level in zip(guessed.tokens, chances, strict=True)
        ]
        return HeadsDraft(levels, [row[0] for row in guessed.tokens] if self._chained else None)

    def _calibrated(self, guessed: "_Guessed") -> Calibration:
        if self._calibration is None:
            counts = self._heads.header.calibration
            self._calibration = (
                Calibration.trusting(len(guessed.probs), len(guessed.probs[0]))
                if counts is None
                else Calibration(counts)
            )
        return self._calibration


@dataclass(frozen=True)
class _Guessed:
    """Proposals as lists, which a dozen numbers are faster in."""

    tokens: list[list[int]]  # [n_heads][top_k]
    probs: list[list[float]]
