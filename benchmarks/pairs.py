"""Whether answers are what they must be: many pairs of schema and prompt, in four ways each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from benchmarks.tasks import Task
from medusa.engine.client import Generated, generate
from medusa.engine.engine import Engine
from medusa.engine.events import FinishReason
from medusa.engine.requests import GenerationRequest
from medusa.sampling.grammars.compiler import GrammarCompiler
from medusa.sampling.params import SamplingParams

TOKENS = 200  # most of an answer


@dataclass(frozen=True)
class Kept:
    """What became of all pairs in one way."""

    way: str
    pairs: int
    ended: int  # by themselves; the others were cut short and are not judged
    valid: int  # of those
    same: int  # of all, token for token as in the first way


def kept(
    engines: Mapping[bool, Engine], compiler: GrammarCompiler, tasks: Sequence[Task]
) -> list[Kept]:
    """Answer tasks at temperature 1, with and without guesses, alone and eight at once.

    Args:
        engines: with guesses and without, of eight slots.
        compiler: of their model.
        tasks: one answer of each is written in each way.
    """
    requests = [
        GenerationRequest(
            task.prompt,
            SamplingParams(temperature=1, seed=seed),
            max_tokens=TOKENS,
            constraint=task.compile(compiler),
        )
        for seed, task in enumerate(tasks)
    ]
    rows: list[Kept] = []
    first: list[Generated] = []
    for guesses in (True, False):
        for parallel in (8, 1):
            answers = generate(engines[guesses], requests, parallel=parallel)
            first = first or answers
            pairs = list(zip(tasks, answers, strict=True))
            ended = [pair for pair in pairs if pair[1].reason is FinishReason.STOP]
            rows.append(
                Kept(
                    f"{'guesses' if guesses else 'plain'}, {parallel} at once",
                    len(pairs),
                    len(ended),
                    sum(task.is_valid(answer.text) for task, answer in ended),
                    sum(a.tokens == b.tokens for a, b in zip(first, answers, strict=True)),
                )
            )
    return rows


def pairs_table(rows: Sequence[Kept]) -> Table:
    """The figures, a line for each way."""
    table = Table(
        "written", "pairs", "ended", "valid of these", "same tokens", title="schema-prompt pairs"
    )
    for row in rows:
        table.add_row(row.way, *(str(each) for each in (row.pairs, row.ended, row.valid, row.same)))
    return table
