"""What fuzzing counts, and what it keeps of the cases that are wrong."""

from collections import Counter
from dataclasses import dataclass, field

MAX_KEPT = 20


@dataclass
class Outcome:
    """Cases by what came of them; `wrong` ones are described, the first of them."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def count(self, what: str, *, wrong: str | None = None) -> None:
        """Count a case; `wrong` says how to make it again, if it must not be."""
        self.counts[what] += 1
        if wrong is not None and len(self.wrong) < MAX_KEPT:
            self.wrong.append(f"{what}: {wrong}")

    @property
    def cases(self) -> int:
        return sum(self.counts.values())
