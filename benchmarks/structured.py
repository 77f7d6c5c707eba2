"""JSON under a schema: whether it validates, and how fast it comes with and without guesses."""

import json as jsonlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Self

import jsonschema
import numpy as np
import typer
from rich.progress import track
from rich.table import Table

from benchmarks.report import JsonFile, MarkdownFile, report
from benchmarks.schemas import Case, random_cases
from benchmarks.workload import Bench
from medusa.engine.client import Generated, generate
from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.events import FinishReason
from medusa.engine.requests import GenerationRequest
from medusa.llama.grammar_tokenizer import grammar_tokenizer
from medusa.llama.threads import default_threads
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.grammars.compiler import GrammarCompiler
from medusa.sampling.grammars.spec import GrammarSpec
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
    """What the constraint itself costs, in milliseconds; medians, and the worst mask."""

    mask: float
    worst_mask: float
    cold_compile: float
    warm_compile: float
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
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 200,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 0.7,
    json: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """One request at a time, all modes in turns for each schema."""
    bench = Bench.load()
    began = time.perf_counter()
    tokenizer = grammar_tokenizer(bench.model)
    tokenizer_seconds = time.perf_counter() - began
    compiler = GrammarCompiler(lambda: tokenizer)
    engines = {guesses: _engine(bench, guesses) for guesses in (False, True)}
    cases = random_cases(per_kind)
    answers: dict[Mode, list[Generated]] = {mode: [] for mode in MODES}
    masks: list[float] = []
    compiles: tuple[list[float], list[float]] = ([], [])
    for number, case in enumerate(track(cases, "answering")):
        make, cold = _timed_compile(compiler, case)
        _, warm = _timed_compile(compiler, case)
        compiles[0].append(cold)
        compiles[1].append(warm)
        for mode in (*MODES[number % len(MODES) :], *MODES[: number % len(MODES)]):
            request = GenerationRequest(
                bench.prompt(case.prompt),
                SamplingParams(temperature=temperature, seed=number),
                max_tokens=tokens,
                constraint=_timed(make, masks) if mode.constrained else None,
            )
            answers[mode] += generate(engines[mode.guesses], [request])
    for engine in engines.values():
        engine.close()
    rows = summarise(cases, answers)
    overhead = Overhead(
        *(
            1e3 * value
            for value in (
                statistics.median(masks),
                max(masks),
                statistics.median(compiles[0]),
                statistics.median(compiles[1]),
                tokenizer_seconds,
            )
        )
    )
    results = {"structured": [asdict(row) for row in rows], "overhead": asdict(overhead)}
    report("structured", [_table(rows), _overhead_table(overhead)], results, json, markdown)


def _engine(bench: Bench, guesses: bool) -> Engine:
    config = EngineConfig(
        n_slots=1,
        n_ctx=2048,
        n_threads=default_threads(),
        draft_nodes=EngineConfig.draft_nodes if guesses else 0,
    )
    return Engine(bench.model, bench.heads if guesses else None, config)


def _timed(
    make: Callable[[], TokenConstraint], seconds: list[float]
) -> Callable[[], TokenConstraint]:
    return lambda: _Timed(make(), seconds)


def _timed_compile(
    compiler: GrammarCompiler, case: Case
) -> tuple[Callable[[], TokenConstraint], float]:
    began = time.perf_counter()
    make = compiler.compile(GrammarSpec.json_schema(case.schema))
    return make, time.perf_counter() - began


def summarise(cases: Sequence[Case], answers: dict[Mode, list[Generated]]) -> list[Summary]:
    """By kind and mode, then all kinds together."""
    kinds = list(dict.fromkeys(case.kind for case in cases))
    rows = []
    for kind in [*kinds, "all"]:
        for mode, generated in answers.items():
            chosen = [
                (case, answer)
                for case, answer in zip(cases, generated, strict=True)
                if kind in (case.kind, "all")
            ]
            usages = [answer.usage for _, answer in chosen if answer.usage is not None]
            n_tokens = sum(usage.completion_tokens for usage in usages)
            ended = [pair for pair in chosen if pair[1].reason is FinishReason.STOP]
            valid = sum(is_valid(case, answer.text) for case, answer in ended)
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


def is_valid(case: Case, text: str) -> bool:
    """Whether a text is JSON that the schema describes."""
    try:
        jsonschema.validate(jsonlib.loads(text), case.schema)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


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
    table.add_row("mask of a token, median", f"{overhead.mask:.3f}")
    table.add_row("mask of a token, worst", f"{overhead.worst_mask:.1f}")
    table.add_row("schema not seen before, median", f"{overhead.cold_compile:.2f}")
    table.add_row("schema in the cache, median", f"{overhead.warm_compile:.3f}")
    table.add_row("vocabulary, once", f"{overhead.tokenizer:.0f}")
    return table
