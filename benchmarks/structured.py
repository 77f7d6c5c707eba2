"""JSON under a schema: whether it validates, and how fast it comes with and without guesses."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Annotated, Self

import numpy as np
import typer
from rich.progress import track
from rich.table import Table

from benchmarks.pairs import kept, pairs_table
from benchmarks.report import JsonFile, MarkdownFile, report
from benchmarks.schemas import random_cases
from benchmarks.tasks import Task, json_tasks, tool_tasks
from benchmarks.workload import Bench
from medusa.engine.client import Generated, generate, stream
from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.events import Delta, FinishReason
from medusa.engine.requests import GenerationRequest
from medusa.llama.grammar_tokenizer import grammar_tokenizer
from medusa.llama.threads import default_threads
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.grammars.compiler import GrammarCompiler
from medusa.sampling.params import SamplingParams


@dataclass(frozen=True)
class Mode:
    """How an answer is written."""

    name: str
    constrained: bool
    guesses: bool


MODES = (
    Mode("free text, plain", constrained=False, guesses=False),
    Mode("free text, guesses", constrained=False, guesses=True),
    Mode("schema, plain", constrained=True, guesses=False),
    Mode("schema, guesses", constrained=True, guesses=True),
)


@dataclass(frozen=True)
class Summary:
    """All answers of a kind in a mode. Texts that were cut short are not judged."""

    kind: str
    mode: str
    valid: float | None  # share
    tokens_per_step: float
    tokens_per_second: float


@dataclass(frozen=True)
class Overhead:
    """What the constraint itself costs, in milliseconds; medians unless they are named otherwise.

    A token that is forced needs no mask.
    """

    mask: float
    worst_mask: float
    masks_per_token: float  # mean, forced tokens included
    cold_compile: float
    cold_first_token: float  # compiling included, the prompt in the cache
    warm_compile: float
    warm_first_token: float
    tokenizer: float  # once for a model


@dataclass
class _Timed:
    """A constraint whose masks are timed."""

    inner: TokenConstraint
    seconds: list[float] = field(default_factory=list)

    def mask(self, row: np.ndarray) -> None:
        began = time.perf_counter()
        self.inner.mask(row)
        self.seconds.append(time.perf_counter() - began)

    def accept(self, token: int) -> None:
        self.inner.accept(token)

    def forced(self) -> Sequence[int]:
        return self.inner.forced()

    def allows(self, token: int) -> bool:
        return self.inner.allows(token)

    def fork(self) -> Self:
        return type(self)(self.inner.fork(), self.seconds)


def structured(
    per_kind: Annotated[int, typer.Option(min=1, help="Schemas of each of the eight kinds.")] = 5,
    tools: Annotated[int, typer.Option(min=0, help="Prompts with tools.")] = 5,
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 200,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 0.7,
    pairs: Annotated[
        int, typer.Option(min=0, help="Only check so many schema-prompt pairs, at temperature 1.")
    ] = 0,
    json: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """One request at a time, all modes in turns for each schema; or many pairs, in four ways."""
    bench = Bench.load()
    began = time.perf_counter()
    tokenizer = grammar_tokenizer(bench.model)
    tokenizer_seconds = time.perf_counter() - began
    compiler = GrammarCompiler(lambda: tokenizer)
    n_slots = 8 if pairs else 1
    engines = {guesses: _engine(bench, guesses, n_slots) for guesses in (False, True)}
    with ExitStack() as opened:
        for engine in engines.values():
            opened.callback(engine.close)
        if pairs:
            n_kinds = len(random_cases(1))
            rows = kept(engines, compiler, json_tasks(bench, -(-pairs // n_kinds))[:pairs])
            results = {"pairs": [asdict(row) for row in rows]}
            report("structured-pairs", [pairs_table(rows)], results, json, markdown)
            return
        tasks = [*json_tasks(bench, per_kind), *tool_tasks(bench, tools)]
        _measure(engines, compiler, tasks, tokens, temperature, tokenizer_seconds, json, markdown)


def _measure(
    engines: Mapping[bool, Engine],
    compiler: GrammarCompiler,
    tasks: Sequence[Task],
    tokens: int,
    temperature: float,
    tokenizer_seconds: float,
    json: JsonFile,
    markdown: MarkdownFile,
) -> None:
    answers: dict[Mode, list[Generated]] = {mode: [] for mode in MODES}
    masks: list[float] = []
    cold: list[tuple[float, float]] = []  # seconds until the grammar is there, and the first token
    warm: list[tuple[float, float]] = []
    for number, task in enumerate(track(tasks, "answering")):
        generate(engines[True], [GenerationRequest(task.prompt, max_tokens=1)])
        cold.append(_first_token(engines[True], compiler, task))
        warm.append(_first_token(engines[True], compiler, task))
        make = task.compile(compiler)
        for mode in (*MODES[number % len(MODES) :], *MODES[: number % len(MODES)]):
            request = GenerationRequest(
                task.prompt,
                SamplingParams(temperature=temperature, seed=number),
                max_tokens=tokens,
                constraint=_timed(make, masks) if mode.constrained else None,
            )
            answers[mode] += generate(engines[mode.guesses], [request])
    rows = summarise(tasks, answers)
    medians = (statistics.median(part) for each in (cold, warm) for part in zip(*each, strict=True))
    n_tokens = sum(
        answer.usage.completion_tokens
        for mode, generated in answers.items()
        for answer in generated
        if mode.constrained and answer.usage is not None
    )
    of_masks = (statistics.median(masks), max(masks), sum(masks) / n_tokens)
    figures = (*of_masks, *medians, tokenizer_seconds)
    overhead = Overhead(*(1e3 * value for value in figures))
    results = {"structured": [asdict(row) for row in rows], "overhead": asdict(overhead)}
    report("structured", [_table(rows), _overhead_table(overhead)], results, json, markdown)


def _first_token(engine: Engine, compiler: GrammarCompiler, task: Task) -> tuple[float, float]:
    """Seconds until the grammar is compiled, and until the first token is there."""
    began = time.perf_counter()
    constraint = task.compile(compiler)
    compiled = time.perf_counter()
    events = stream(engine, GenerationRequest(task.prompt, max_tokens=1, constraint=constraint))
    while not isinstance(next(events), Delta):
        pass
    told = time.perf_counter()
    for _ in events:
        pass
    return compiled - began, told - began


def _engine(bench: Bench, guesses: bool, n_slots: int) -> Engine:
    config = EngineConfig(
        n_slots=n_slots,
        n_ctx=2048 * n_slots,
        n_threads=default_threads(),
        draft_nodes=EngineConfig.draft_nodes if guesses else 0,
    )
    return Engine(bench.model, bench.heads if guesses else None, config)


def _timed(
    make: Callable[[], TokenConstraint], seconds: list[float]
) -> Callable[[], TokenConstraint]:
    return lambda: _Timed(make(), seconds)


def summarise(tasks: Sequence[Task], answers: dict[Mode, list[Generated]]) -> list[Summary]:
    """By kind and mode, then all kinds together."""
    kinds = list(dict.fromkeys(task.kind for task in tasks))
    rows = []
    for kind in [*kinds, "all"]:
        for mode, generated in answers.items():
            chosen = [
                (task, answer)
                for task, answer in zip(tasks, generated, strict=True)
                if kind in (task.kind, "all")
            ]
            usages = [answer.usage for _, answer in chosen if answer.usage is not None]
            n_tokens = sum(usage.completion_tokens for usage in usages)
            ended = [pair for pair in chosen if pair[1].reason is FinishReason.STOP]
            valid = sum(task.is_valid(answer.text) for task, answer in ended)
            rows.append(
                Summary(
                    kind,
                    mode.name,
                    valid / len(ended) if ended else None,
                    n_tokens / sum(usage.steps for usage in usages),
                    n_tokens / sum(usage.decode_seconds for usage in usages),
                )
            )
    return rows


def _table(rows: Sequence[Summary]) -> Table:
    table = Table(
        "kind", "written as", "valid", "tokens/step", "tokens/s", title="one request, by kind"
    )
    for row in rows:
        table.add_row(
            row.kind,
            row.mode,
            "" if row.valid is None else f"{row.valid:.0%}",
            f"{row.tokens_per_step:.2f}",
            f"{row.tokens_per_second:.0f}",
            end_section=row.mode == MODES[-1].name,
        )
    return table


def _overhead_table(overhead: Overhead) -> Table:
    table = Table("what the constraint costs", "ms", title="overhead")
    table.add_row("mask of a token that is not forced, median", f"{overhead.mask:.3f}")
    table.add_row("the worst", f"{overhead.worst_mask:.1f}")
    table.add_row("masks for each token written, mean", f"{overhead.masks_per_token:.3f}")
    table.add_row("schema not seen before, median", f"{overhead.cold_compile:.2f}")
    table.add_row("first token then, median", f"{overhead.cold_first_token:.1f}")
    table.add_row("schema in the cache, median", f"{overhead.warm_compile:.3f}")
    table.add_row("first token then, median", f"{overhead.warm_first_token:.1f}")
    table.add_row("vocabulary, once", f"{overhead.tokenizer:.0f}")
    return table
