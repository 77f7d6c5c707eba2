"""Prompt lookup: what followed the newest tokens when they stood in the text before.

Drafting by n-gram matches in the request's own prompt and answer: Saxena 2023, "Prompt lookup
decoding"; Yang et al. 2023, "Inference with reference".
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

from medusa.speculation.sources.ngrams import Evidence, NgramText
from medusa.speculation.sources.source import LOOKUP, Draft, DraftRequest, DraftSource

_LENGTHS = (2, 3, 4, 5, 8, 16)  # where the next bucket begins; the first holds 1
_PRIOR_TRIALS = 8.0
_FADING = 0.97


_PRIOR = (
    (0.28, 0.51, 0.62, 0.65, 0.72, 0.84, 0.93),
    (0.51, 0.74, 0.80, 0.87, 0.90, 0.95, 0.98),
    (0.14, 0.26, 0.25, 0.26, 0.29, 0.45, 0.57),
)
"""How often a copied token was right, by evidence and length of the match: counted on the default
model's answers to 873 prompts of its training."""


class Ground(NamedTuple):
    """What the chance of a copied token is estimated from."""

    evidence: Evidence
    bucket: int  # of the length of the match

    @classmethod
    def of(cls, evidence: Evidence, length: int) -> "Ground":
        """For a token after a match of `length` tokens."""
        return cls(evidence, bisect_right(_LENGTHS, length))


class Lookup:
    """Continuations for one request, and how often they were right in it."""

    def __init__(self) -> None:
        self.text = NgramText()
        self._trials = [[_PRIOR_TRIALS] * len(row) for row in _PRIOR]
        self._hits = [[_PRIOR_TRIALS * chance for chance in row] for row in _PRIOR]

    def read(self, tokens: Sequence[int]) -> None:
        """Take in how far the request's text has grown."""
        self.text.extend(tokens[len(self.text) :])

    def continuation(self, count: int) -> "Continuation | None":
        """Up to `count` tokens that may come next."""
        end, length = self.text.match()
        return Continuation(self, end, length, count) if length and count > 0 else None

    def chance(self, ground: Ground) -> float:
        """How often a token that was copied on this ground was right."""
        evidence, bucket = ground
        return self._hits[evidence][bucket] / self._trials[evidence][bucket]

    def observe(self, ground: Ground, right: bool) -> None:
        """Take in whether a token that was copied on this ground was right."""
        hits, trials = self._hits[ground.evidence], self._trials[ground.evidence]
        trials[ground.bucket] = trials[ground.bucket] * _FADING + 1.0
        hits[ground.bucket] = hits[ground.bucket] * _FADING + right


@dataclass(frozen=True, slots=True)
class Continuation:
    """Tokens that may come next, one after the other, until the text goes on.

    A draft whose places are depths; only what is asked for is computed.
    """

    lookup: Lookup
    end: int  # of the match
    length: int  # of the match
    count: int  # of the tokens
    source = LOOKUP

    def guesses(self, place: int) -> Mapping[int, float]:
        """As `Draft.guesses`."""
        return {self.token(place): self.lookup.chance(self.ground(place))}

    def follow(self, place: int, token: int) -> int | None:
        """As `Draft.follow`."""
        below = place + 1
        return below if below < self.count and self.token(place) == token else None

    def token(self, depth: int) -> int:
        """One of the tokens."""
        return self.lookup.text.token(self.end, depth)

    def ground(self, depth: int) -> Ground:
        """What its chance is estimated from."""
        evidence = self.lookup.text.evidence(self.end, self.length, depth)
        return Ground.of(evidence, self.length + depth)

    def observe(self, accepted: Sequence[int]) -> None:
        """Learn from the tokens that came instead, up to the first other one."""
        for depth, token in enumerate(accepted[: self.count]):
            right = self.token(depth) == token
            self.lookup.observe(self.ground(depth), right)
            if not right:
                return


class LookupSource(DraftSource):
    """Copies from each request's own text.

    Args:
        max_tokens: most tokens of a copy.
    """

    name = LOOKUP
    runs_heads = False
    optional = False
    rests = True

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._lookups: WeakKeyDictionary[object, Lookup] = WeakKeyDictionary()
        # What was found last and not observed yet. It refers to its lookup, which must not refer
        # to it: a long text would wait for the garbage collector.
        self._open: WeakKeyDictionary[object, Continuation] = WeakKeyDictionary()

    def propose(self, requests: Sequence[DraftRequest]) -> Sequence[Draft | None]:
        """As `DraftSource.propose`."""
        found = []
        for request in requests:
            lookup = self._lookup(request.key)
            lookup.read(request.tokens)
            copied = lookup.continuation(min(self._max_tokens, request.max_depth))
            found.append(copied)
            self._open.pop(request.key, None)
            if copied is not None:
                self._open[request.key] = copied
        return found

    def observe(self, key: object, accepted: Sequence[int]) -> None:
        """As `DraftSource.observe`."""
        copied = self._open.pop(key, None)
        if copied is not None:
            copied.observe(accepted)

    def _lookup(self, key: object) -> Lookup:
        found = self._lookups.get(key)
        if found is None:
            found = self._lookups[key] = Lookup()
        return found
