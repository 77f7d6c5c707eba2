"""What a simulation says: throughput, first tokens, what was cached, fairness."""

import statistics
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

from benchmarks.simulator.simulation import Outcome


@dataclass(frozen=True)
class Measures:
    """Of one run."""

    tokens_per_second: float  # written, in the middle of the run
    first_median: float  # seconds from arrival to first token
    first_p99: float
    cached: float  # part of all prompt tokens

    @classmethod
    def of(cls, outcome: Outcome) -> Self:
        """What an outcome amounts to."""
        waits = sorted(s.first - s.arrived for s in outcome.served if s.first is not None)
        n_prompt = sum(each.n_prompt for each in outcome.served)
        return cls(
            sum(rates(outcome).values()),
            statistics.median(waits),
            waits[int(0.99 * (len(waits) - 1))],
            sum(each.cached for each in outcome.served) / n_prompt,
        )


def rates(outcome: Outcome) -> Mapping[str, float]:
    """Tokens a second of each group of clients while the middle half of the requests ended: before
    that the system fills, after it it empties."""
    ends = sorted(each.ended for each in outcome.served if each.ended is not None)
    begin, end = ends[len(ends) // 4], ends[3 * len(ends) // 4]
    written: Counter[str] = Counter()
    for time, tokens in outcome.written:
        if begin < time <= end:
            written.update(tokens)
    return {group: n_tokens / (end - begin) for group, n_tokens in written.items()}


def jain(shares: Collection[float]) -> float:
    """Jain's index of fairness: 1 if all are the same, 1 / n if one has all (Jain et al. 1984)."""
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))
