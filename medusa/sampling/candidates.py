"""The tokens among which the next one is chosen."""

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np

from medusa.sampling.draw import checked_peak, draw
from medusa.sampling.selecting import Nucleus, Others, crossing_of_some

_LOWEST = float(np.finfo(np.float32).min)

_UNLIKELY = 1e-4
"""What all tokens weigh together at most that need not be looked at, beside the likeliest one."""

_FEW = 8
"""What part of all the likely ones may be for a look at them alone to pay."""


class Likely(NamedTuple):
    """The candidates that weigh something, and the others, which are smaller."""

    candidates: "Candidates"
    others: Others


class Candidates:
    """Tokens of one row of logits, and how likely they are beside one another.

    Nothing is computed before it is asked for, and nothing is changed: filters make others of it.

    Args:
        row: [n_vocab] float32, logits of all tokens; not written to.
        ids: [n] ascending token ids; None: all tokens.
        temperature: what logits are divided by; above 0.
        peak: the logit that weighs 1; None: the largest.
        weights: [n] float32, if they are known.
    """

    def __init__(
        self,
        row: np.ndarray,
        ids: np.ndarray | None = None,
        temperature: float = 1.0,
        peak: np.float32 | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        self._row = row
        self._temperature = temperature
        if ids is not None:
            self.__dict__["ids"] = ids
        if peak is not None:
            self.__dict__["peak"] = peak
        if weights is not None:
            self.__dict__["weights"] = weights

    @classmethod
    def of(cls, row: np.ndarray) -> "Candidates":
        """All tokens of a row.

        Raises:
            NotNumbersError: see `checked_peak`.
        """
        largest: np.float32 = row.max()
        checked_peak(float(largest))
        return cls(row, peak=largest)

    def __len__(self) -> int:
        return len(self._row) if self.ids is None else len(self.ids)

    @cached_property
    def ids(self) -> np.ndarray | None:
        """[n] ascending token ids; None: all tokens."""
        return None

    @cached_property
    def logits(self) -> np.ndarray:
        """[n] float32, before the temperature: in the order of likelihood all the same."""
        return self._row if self.ids is None else self._row[self.ids]

    @cached_property
    def peak(self) -> np.float32:
        """The logit that weighs 1."""
        largest: np.float32 = self.logits.max()
        return largest

    @cached_property
    def scaled(self) -> np.ndarray:
        """[n] float32: the logarithms of the weights."""
        scaled: np.ndarray = self.logits - self.peak
        if self._temperature != 1.0:
            scaled /= np.float32(self._temperature)
        return scaled

    @cached_property
    def weights(self) -> np.ndarray:
        """[n] float32: probabilities relative to the likeliest of some larger set."""
        weights: np.ndarray = np.exp(self.scaled)
        return weights

    @cached_property
    def likely(self) -> Likely | None:
        """Those of a whole row that are likely; None if they are too many for that to pay."""
        if self.ids is not None or "weights" in self.__dict__:
            return None
        at_most = _UNLIKELY / len(self)
        limit = float(self.peak) + self._temperature * math.log(at_most)
        lowest = np.nextafter(np.float32(max(limit, _LOWEST)), np.float32(_LOWEST))
        near = self._row >= lowest
        count = int(np.count_nonzero(near))
        if _FEW * count > len(self):
            return None
        # Logarithms that are rounded to float32 are off by less than a thousandth.
        others = Others(len(self) - count, 1.001 * at_most)
        return Likely(self.only(np.flatnonzero(near)), others)

    def draw(self, uniform: float) -> int:
        """The token that a uniform number in [0, 1) selects: the inverse of the cumulated weights.

        In the order of the vocabulary; so a number always selects the same token.
        """
        if self.likely is not None:
            candidates, others = self.likely
            index = crossing_of_some(candidates.weights, others, uniform)
            if index is not None:
                return candidates.token(index)
        return self.token(draw(self.weights, uniform))

    def probability(self, token: int) -> float:
        """Of one of them, by its token id."""
        index = token if self.ids is None else int(np.searchsorted(self.ids, token))
        return float(self.weights[index]) / self._total

    def likeliest(self, count: int) -> list[tuple[int, float]]:
        """Token ids and probabilities of at most so many, descending; impossible ones are none."""
        order = np.argsort(-self.weights, kind="stable")[:count]
        return [
            (self.token(int(index)), float(self.weights[index]) / self._total)
            for index in order
            if self.weights[index] > 0
        ]

    @cached_property
    def _total(self) -> float:
        return float(self.weights.sum(dtype=np.float64))

    def token(self, index: int) -> int:
        """The token id of one of them."""
        return index if self.ids is None else int(self.ids[index])

    def only(self, kept: np.ndarray) -> "Candidates":
        """Some of them. kept: ascending indices, at least one."""
        if len(kept) == len(self):
            return self
        ids = kept if self.ids is None else self.ids[kept]
        known = self.__dict__.get("weights")
        weights = None if known is None else known[kept]
        return Candidates(self._row, ids, self._temperature, self.__dict__.get("peak"), weights)

    def within(self, nucleus: Nucleus) -> "Candidates":
        """Some of them, as many as they may be."""
        if self.ids is None:
            return _Sifted(self, nucleus)
        return self.only(np.flatnonzero(nucleus.kept))

    def at(self, temperature: float) -> "Candidates":
        """The same at another temperature, which must be above 0; one does not add to the other."""
        peak = self.__dict__.get("peak") if self.ids is None else None
        return Candidates(self._row, self.ids, temperature, peak)


class _Sifted(Candidates):
    """Some of a whole row, which are listed only when that is asked for.

    Args:
        whole: all tokens.
        nucleus: of their weights.
    """

    def __init__(self, whole: Candidates, nucleus: Nucleus) -> None:
        super().__init__(whole._row, None, whole._temperature, whole.peak)
        self._whole = whole
        self._nucleus = nucleus

    @cached_property
    def ids(self) -> np.ndarray | None:
        """As `Candidates.ids`."""
        return np.flatnonzero(self._nucleus.kept)

    @cached_property
    def weights(self) -> np.ndarray:
        """As `Candidates.weights`."""
        weights: np.ndarray = self._whole.weights[self.ids]
        return weights

    def draw(self, uniform: float) -> int:
        """As `Candidates.draw`."""
        return self._nucleus.crossing(self._whole.weights, uniform)
