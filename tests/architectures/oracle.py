"""A source of drafts that knows the answers, and guesses wrong as well."""

import random
from collections.abc import Sequence

from medusa.speculation.sources.source import Draft, DraftRequest, DraftSource
from tests.architectures.reference import Expected
from tests.architectures.vocabulary import N_VOCAB
from tests.medusa.speculation.drafts import Guesses

_DEPTH, _WIDTH, _RIGHT = 3, 3, 0.8


class Oracle(DraftSource):
    """Trees whose branches are partly right.

    Args:
        expected: what will be generated.
        dice: where the right token stands, and whether it is there at all.
    """

    name = "oracle"
    runs_heads = False
    optional = False
    rests = False

    def __init__(self, expected: Sequence[Expected], dice: random.Random) -> None:
        self._texts = [[*each.request.prompt, *each.tokens] for each in expected]
        self._dice = dice

    def propose(self, requests: Sequence[DraftRequest]) -> Sequence[Draft | None]:
        return [self._draft(list(request.tokens)) for request in requests]

    def _draft(self, tokens: list[int]) -> Draft:
        n, dice = len(tokens), self._dice
        futures = [text[n:] for text in self._texts if text[:n] == tokens and len(text) > n]
        right = dice.choice(futures) if futures else []
        levels = []
        for depth in range(_DEPTH):
            level = dice.sample(range(N_VOCAB), _WIDTH)
            if depth < len(right) and right[depth] not in level and dice.random() < _RIGHT:
                level[dice.choice([0, 0, 1, 2])] = right[depth]
            levels.append(level)
        chances = [[0.4, 0.3, 0.2]] * _DEPTH
        return Guesses(levels, chances, chained=dice.random() < 0.3).draft()
