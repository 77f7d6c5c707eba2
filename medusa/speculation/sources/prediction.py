"""Copies from the text that a request predicted its answer to be (OpenAI's predicted outputs)."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

from medusa.speculation.alignment import Alignment
from medusa.speculation.sources.source import PREDICTION, ROOT, Draft, DraftRequest, DraftSource

_LENGTHS = (1, 2, 3, 4, 8, 16)  # tokens that agree, where the next ground begins
_START, _REPLACED, _INSERTED = len(_LENGTHS) + 1, len(_LENGTHS) + 2, len(_LENGTHS) + 3
_PRIOR = (0.1, 0.35, 0.6, 0.75, 0.85, 0.93, 0.97, 0.8, 0.4, 0.25)
"""How often a predicted token is right: after no, 1, 2, ... tokens that agree; at the beginning;
after one that may have replaced another; after one that may have been inserted."""
_PRIOR_TRIALS = 8.0
_FADING = 0.97

_Place = tuple[int, int]
"""Where in the prediction, and on what ground."""


class Chances:
    """How often one request's prediction was right, on each ground."""

    def __init__(self) -> None:
        self._trials = [_PRIOR_TRIALS] * len(_PRIOR)
        self._hits = [_PRIOR_TRIALS * chance for chance in _PRIOR]

    def __getitem__(self, ground: int) -> float:
        return self._hits[ground] / self._trials[ground]

    def observe(self, ground: int, right: bool) -> None:
        """Take in whether a token that was copied on this ground was right."""
        self._trials[ground] = self._trials[ground] * _FADING + 1.0
        self._hits[ground] = self._hits[ground] * _FADING + right


class PredictedDraft:
    """What the prediction says from one or several places on, between which the text may be.

    Args:
        alignment: where the answer is.
        chances: how likely that makes what.
    """

    source = PREDICTION

    def __init__(self, alignment: Alignment, chances: Chances) -> None:
        self._predicted = alignment.predicted
        self._chances = chances
        self._begins = _begins(alignment)
        self._agreed = alignment.agreed
        self._places: list[tuple[int, int]] = [(0, 0)]  # behind ROOT: where, and tokens that agree

    def guesses(self, place: int) -> Mapping[int, float]:
        """As `Draft.guesses`."""
        found: dict[int, float] = {}
        left = 1.0
        for where, ground in self._grounds(place):
            token = self._predicted[where]
            if token not in found:
                found[token] = left * self._chances[ground]
                left -= found[token]
        return found

    def follow(self, place: int, token: int) -> int | None:
        """As `Draft.follow`."""
        for where, _ in self._grounds(place):
            if self._predicted[where] == token and where + 1 < len(self._predicted):
                agreed = self._agreed if place == ROOT else self._places[place][1]
                self._places.append((where + 1, agreed + 1))
                return len(self._places) - 1
        return None

    def observe(self, accepted: Sequence[int]) -> None:
        """Learn from the tokens that came, up to the first that was not predicted."""
        place: int | None = ROOT
        for token in accepted:
            if place is None:
                return
            for where, ground in self._grounds(place):
                self._chances.observe(ground, self._predicted[where] == token)
            place = self.follow(place, token)

    def _grounds(self, place: int) -> Sequence[_Place]:
        if place == ROOT:
            return self._begins
        where, agreed = self._places[place]
        return ((where, bisect_right(_LENGTHS, agreed)),)


def _begins(alignment: Alignment) -> list[_Place]:
    """Where the answer may go on in the prediction, the likeliest first."""
    if alignment.place == alignment.agreed == alignment.since == 0:
        begins = [(0, _START)]
    else:
        begins = [(alignment.place, bisect_right(_LENGTHS, alignment.agreed))]
    if alignment.since:
        replaced = alignment.parted_at + alignment.since
        begins += [(replaced, _REPLACED), (alignment.parted_at, _INSERTED)]
    known = dict(reversed(begins))
    return [
        (where, ground)
        for where, ground in reversed(known.items())
        if alignment.expected(where) is not None
    ]


class PredictionSource(DraftSource):
    """Copies from each request's prediction, where it has one."""

    name = PREDICTION
    runs_heads = False
    optional = False
    rests = False

    def __init__(self) -> None:
        self._chances: WeakKeyDictionary[object, Chances] = WeakKeyDictionary()
        self._open: WeakKeyDictionary[object, PredictedDraft] = WeakKeyDictionary()

    def propose(self, requests: Sequence[DraftRequest]) -> Sequence[Draft | None]:
        """As `DraftSource.propose`."""
        drafts: list[Draft | None] = []
        for request in requests:
            draft = None
            if request.alignment is not None:
                chances = self._chances.setdefault(request.key, Chances())
                draft = self._open[request.key] = PredictedDraft(request.alignment, chances)
            drafts.append(draft)
        return drafts

    def observe(self, key: object, accepted: Sequence[int]) -> None:
        """As `DraftSource.observe`."""
        draft = self._open.pop(key, None)
        if draft is not None:
            draft.observe(accepted)
