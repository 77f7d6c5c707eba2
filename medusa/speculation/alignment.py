"""Where an answer is in a text that was predicted, found again after every difference."""

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Sequence
from itertools import islice

LONGEST = 32
"""Longer agreement counts as that long."""
_SURE = 4  # tokens that agree, from which on the place is not doubted
_NEAREST = 32  # places of a token that are looked at, around where it is expected


class Alignment:
    """Follows an answer, token by token, along the text that was predicted for it.

    The next token is expected at `place`. Where another one comes, the two part; from then on the
    place is where most of the tokens since then stand in the prediction, of several such places the
    nearest to where the answer would be if each of them had been put for another one. What is
    replaced, inserted, deleted or moved costs a few tokens until the place is found.

    Args:
        predicted: the prediction's tokens.
    """

    def __init__(self, predicted: Sequence[int]) -> None:
        self.predicted = tuple(predicted)
        self.place = 0
        self.agreed = 0  # tokens before the place that are the answer's newest; at most LONGEST
        self.parted_at = 0  # the place where answer and prediction parted
        self.since = 0  # tokens since then; 0: they go together
        self._seen = bytearray(len(self.predicted))  # which tokens came
        self._newest: deque[int] = deque(maxlen=LONGEST)
        self._places: dict[int, list[int]] = defaultdict(list)
        for place, token in enumerate(self.predicted):
            self._places[token].append(place)

    @property
    def n_seen(self) -> int:
        """Tokens of the prediction that are in the answer."""
        return sum(self._seen)

    def expected(self, place: int) -> int | None:
        """The predicted token at a place; None behind the last."""
        return self.predicted[place] if 0 <= place < len(self.predicted) else None

    def feed(self, token: int) -> None:
        """Take in the next token of the answer."""
        self._newest.append(token)
        if self.expected(self.place) == token:
            self._seen[self.place] = 1
            self.place += 1
            self.agreed = min(self.agreed + 1, LONGEST)
            self.since += self.since > 0
            if self.agreed >= _SURE:
                self.since = 0
            return
        if self.since == 0:
            self.parted_at = self.place
        self.since += 1
        self.place, self.agreed = self._find(token)
        self._seen[self.place - self.agreed : self.place] = b"\x01" * self.agreed

    def _find(self, token: int) -> tuple[int, int]:
        """The place behind the newest tokens, and how many of them stand before it."""
        guess = self.parted_at + self.since
        places = self._places.get(token, ())
        middle = bisect_left(places, guess - 1)
        near = places[max(0, middle - _NEAREST) : middle + _NEAREST]
        found = [(self._agreement(place), -abs(place + 1 - guess), place + 1) for place in near]
        if not found:
            return min(guess, len(self.predicted)), 0
        agreed, _, behind = max(found)
        return behind, agreed

    def _agreement(self, end: int) -> int:
        """How many of the tokens since the parting stand at a place and before it."""
        agreed = 0
        for token in islice(reversed(self._newest), self.since):
            if self.expected(end - agreed) != token:
                break
            agreed += 1
        return agreed
