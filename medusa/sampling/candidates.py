"""The tokens among which the next one is chosen."""

from functools import cached_property

import numpy as np

from medusa.sampling.draw import checked_peak


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
        self._ids = ids
        self._temperature = temperature
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
        return len(self._row) if self._ids is None else len(self._ids)

    @cached_property
    def logits(self) -> np.ndarray:
        """[n] float32, before the temperature: in the order of likelihood all the same."""
        return self._row if self._ids is None else self._row[self._ids]

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

    def probability(self, token: int) -> float:
        """Of one of them, by its token id."""
        index = token if self._ids is None else int(np.searchsorted(self._ids, token))
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
        return index if self._ids is None else int(self._ids[index])

    def only(self, kept: np.ndarray) -> "Candidates":
        """Some of them. kept: ascending indices, at least one."""
        if len(kept) == len(self):
            return self
        ids = kept if self._ids is None else self._ids[kept]
        known = self.__dict__.get("weights")
        weights = None if known is None else known[kept]
        return Candidates(self._row, ids, self._temperature, self.__dict__.get("peak"), weights)

    def at(self, temperature: float) -> "Candidates":
        """The same at another temperature, which must be above 0; one does not add to the other."""
        peak = self.__dict__.get("peak") if self._ids is None else None
        return Candidates(self._row, self._ids, temperature, peak)
