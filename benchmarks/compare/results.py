"""What was measured, as it is kept in a file: enough to write the report again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter

from benchmarks.compare.load import Answer, Burst
from benchmarks.compare.peers.peer import Peer
from benchmarks.compare.plan import Scenario
from benchmarks.compare.statistics import common_prefix, percentile
from medusa.files import whole_file


@dataclass(frozen=True)
class Percentiles:
    """Of times, in milliseconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """All zero where there are none."""
        return cls(*(1e3 * percentile(seconds or [0.0], share) for share in (0.5, 0.95, 0.99)))


@dataclass(frozen=True)
class Cost:
    """What a burst took of the machine; None: it is not told.

    Attributes:
        cpu_seconds: the server's.
        peak_memory_mb: the server's, so far.
        joules: the whole processor's.
    """

    cpu_seconds: float | None
    peak_memory_mb: float | None
    joules: float | None


@dataclass(frozen=True)
class Sample:
    """One server in one scenario in one round."""

    server: str
    scenario: str
    round: int
    seconds: float
    tokens: int
    requests: int
    failed: int
    error: str  # the first one
    finish_reasons: Mapping[str, int]
    first_token: Percentiles
    inter_token: Percentiles  # between pieces of text as they arrive
    generator_cpu_seconds: float
    cost: Cost

    @classmethod
    def of(
        cls, server: str, scenario: str, number: int, burst: Burst, tokens: int, cost: Cost
    ) -> Self:
        """Sum up a burst of which `tokens` were generated."""
        good = [answer for answer in burst.answers if not answer.error]
        return cls(
            server,
            scenario,
            number,
            burst.seconds,
            tokens,
            len(good),
            len(burst.answers) - len(good),
            next((answer.error for answer in burst.answers if answer.error), ""),
            Counter(answer.finish_reason or "" for answer in good),
            Percentiles.of([answer.first for answer in good]),
            Percentiles.of([gap for answer in good for gap in answer.gaps]),
            burst.cpu_seconds,
            cost,
        )

    @property
    def tokens_per_second(self) -> float:
        """Of all clients together, prompts included in the time."""
        return self.tokens / self.seconds

    @property
    def requests_per_second(self) -> float:
        """Answered ones."""
        return self.requests / self.seconds


@dataclass(frozen=True)
class Equality:
    """A server's answers in one scenario and round beside those of ours.

    Attributes:
        equal: answers that are the same text.
        prefixes: for each answer, the characters before the first difference over those of the
            longer text.
    """

    server: str
    scenario: str
    round: int
    equal: int
    prefixes: tuple[float, ...]

    @classmethod
    def of(
        cls,
        server: str,
        scenario: str,
        number: int,
        theirs: Sequence[Answer],
        ours: Sequence[Answer],
    ) -> Self:
        """Compare answers to the same prompts, those that did not fail."""
        pairs = [
            (one.text, other.text)
            for one, other in zip(theirs, ours, strict=True)
            if not one.error and not other.error
        ]
        shares = (common_prefix(*pair) / max(1, *map(len, pair)) for pair in pairs)
        return cls(server, scenario, number, sum(a == b for a, b in pairs), tuple(shares))


@dataclass(frozen=True)
class Trial:
    """Settings that were tried, and what they gave: tokens per second by clients."""

    options: tuple[str, ...]
    tokens_per_second: Mapping[int, float]


@dataclass(frozen=True)
class Server:
    """One that was compared, with the settings it was found to be best with."""

    peer: Peer
    trials: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class Decode:
    """Milliseconds of one decode of n tokens, and the least that the machine allows."""

    isa: str
    n: int
    stock: float
    ours: float
    floor: float


@dataclass
class Results:
    """Everything of one comparison."""

    command: str
    date: str
    commit: str
    machine: str
    model: str
    scenarios: list[Scenario]
    servers: list[Server] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    equalities: list[Equality] = field(default_factory=list)
    decodes: list[Decode] = field(default_factory=list)

    @property
    def n_rounds(self) -> int:
        """Whole ones."""
        return max((sample.round for sample in self.samples), default=-1) + 1

    def of(self, server: str, scenario: str) -> list[Sample]:
        """Samples by round."""
        return [s for s in self.samples if (s.server, s.scenario) == (server, scenario)]

    def save(self, path: Path) -> None:
        """Write all; a reader sees what was there before until it is whole."""
        with whole_file(path) as partial:
            partial.write_bytes(_RESULTS.dump_json(self, indent=1) + b"\n")

    @staticmethod
    def load(path: Path) -> "Results":
        """Read what `save` wrote. Raises pydantic.ValidationError if it is not that."""
        return _RESULTS.validate_json(path.read_bytes())


_RESULTS = TypeAdapter(Results)
