"""What is measured, in which order, and for how long."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import TypeVar

from benchmarks.compare.prompts import Prompt, conversations, draw

_CLIENTS = (1, 2, 4, 8, 16)
_RATES = (1.0, 2.0, 4.0)
_LEAST_PROMPTS = 12
_N_CONVERSATIONS = 18  # more than there are slots
_N_MATRIX = 5

S = TypeVar("S")
T = TypeVar("T")


class Part(StrEnum):
    """Of the report."""

    CLIENTS = "closed loop"
    ARRIVALS = "Poisson arrivals"
    CONVERSATIONS = "conversations"
    REPEATED = "repeated prompts"
    KINDS = "kinds"
    MATRIX = "matrix"


@dataclass(frozen=True)
class Scenario:
    """Requests that every server gets.

    Attributes:
        name: in reports.
        part: of the report where it appears.
        n_prompts: how many.
        clients: how many are asked at a time, at most.
        max_tokens: of an answer.
        kind: of all prompts, None: mixed, without structured output and tool calls.
        rate: mean requests per second, None: a client asks when its last answer is whole.
        turns: of a conversation.
        repeated: whether each prompt is the same, in all rounds.
    """

    name: str
    part: Part
    n_prompts: int
    clients: int
    max_tokens: int
    kind: str | None = None
    rate: float | None = None
    turns: int = 1
    repeated: bool = False

    def prompts(self, known: Sequence[Prompt], edition: int) -> tuple[Prompt, ...]:
        """What is asked in one round, each of which has an edition of its own."""
        if self.repeated:
            return draw(known, 1, 0) * self.n_prompts
        if self.kind is not None:
            known = [prompt for prompt in known if prompt.kind == self.kind]
        else:
            known = [prompt for prompt in known if not prompt.fields]
        return draw(conversations(known, self.turns) or known, self.n_prompts, edition)

    def starts(self, edition: int) -> tuple[float, ...]:
        """Seconds after which each may be asked; Poisson: the gaps are exponential."""
        if self.rate is None:
            return (0.0,) * self.n_prompts
        dice = random.Random(edition)
        gaps = [dice.expovariate(self.rate) for _ in range(self.n_prompts - 1)]
        return tuple(accumulate(gaps, initial=0.0))


def closed(clients: int, tokens: int, n_prompts: int | None = None) -> Scenario:
    """So many clients, each of which asks when its last answer is whole."""
    count = n_prompts or max(_LEAST_PROMPTS, 2 * clients)
    name = f"{clients} client{'s' if clients > 1 else ''}"
    return Scenario(name, Part.CLIENTS, count, clients, tokens)


def full(kinds: Sequence[str], tokens: int) -> list[Scenario]:
    """Everything but the matrix."""
    arrivals = [
        Scenario(f"{rate:g} requests/s", Part.ARRIVALS, 6, 6, tokens, rate=rate) for rate in _RATES
    ]
    return [
        *(closed(clients, tokens) for clients in _CLIENTS),
        *arrivals,
        Scenario(
            f"{_N_CONVERSATIONS} conversations", Part.CONVERSATIONS, _N_CONVERSATIONS,
            _N_CONVERSATIONS, tokens // 2, turns=2,
        ),
        Scenario("repeated prompts", Part.REPEATED, 8, 4, tokens, repeated=True),
        *(Scenario(kind, Part.KINDS, 4, 1, tokens, kind=kind) for kind in kinds),
    ]  # fmt: skip


def quick(kinds: Sequence[str], tokens: int) -> list[Scenario]:
    """Something of everything."""
    return [
        closed(1, tokens, 2),
        closed(4, tokens, 4),
        Scenario("4 requests/s", Part.ARRIVALS, 3, 3, tokens, rate=4.0),
        Scenario("2 conversations", Part.CONVERSATIONS, 2, 2, tokens // 2, turns=2),
        Scenario("repeated prompts", Part.REPEATED, 2, 2, tokens, repeated=True),
        *(Scenario(kind, Part.KINDS, 1, 1, tokens, kind=kind) for kind in kinds),
    ]


def matrix(tokens: int) -> list[Scenario]:
    """Five prompts one by one, and five at once."""
    return [
        Scenario("one by one", Part.MATRIX, _N_MATRIX, 1, tokens),
        Scenario("batched", Part.MATRIX, _N_MATRIX, _N_MATRIX, tokens),
    ]


def in_turns(scenarios: Sequence[S], servers: Sequence[T], number: int) -> Iterator[tuple[S, T]]:
    """Each scenario by all servers, A B C, in the next round B C A."""
    first = number % len(servers)
    for scenario in scenarios:
        for server in (*servers[first:], *servers[:first]):
            yield scenario, server


def edition(scenarios: Sequence[Scenario], scenario: Scenario, number: int) -> int:
    """Of a scenario's prompts in a round: no two have the same."""
    return number * len(scenarios) + scenarios.index(scenario)


def another_round(rounds: Sequence[float], passed: float, budget: float) -> bool:
    """Whether a further round would end in time.

    Args:
        rounds: seconds that each took so far; the first is always run.
        passed: seconds in all so far, preparations included.
        budget: seconds.
    """
    return not rounds or passed + max(rounds) <= budget
