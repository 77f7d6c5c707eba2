"""What guessing is worth, by kind of request: plain decoding against heads, lookup, and both."""

import json as jsonlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track
from rich.table import Table

from benchmarks.report import JsonFile, MarkdownFile, report
from benchmarks.workload import Bench, run
from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.requests import GenerationRequest
from medusa.llama.threads import default_threads
from medusa.sampling.params import SamplingParams
from medusa.speculation.cost import FixedCost, StepCost
from medusa.speculation.heads.loading import load_heads

PROMPTS = Path(__file__).with_name("prompts")


@dataclass(frozen=True)
class Mode:
    """Where guesses come from."""

    name: str
    heads: bool
    lookup: bool


MODES = (
    Mode("off", heads=False, lookup=False),
    Mode("heads", heads=True, lookup=False),
    Mode("lookup", heads=False, lookup=True),
    Mode("both", heads=True, lookup=True),
)


@dataclass(frozen=True)
class Answer:
    """One prompt answered in one mode. `seconds` are spent decoding, the prompt not counted."""

    kind: str
    mode: str
    tokens: int
    steps: int
    drafts: int
    seconds: float


@dataclass(frozen=True)
class Summary:
    """All answers of a kind in a mode, against plain decoding of the same prompts."""

    kind: str
    mode: str
    tokens_per_second: float
    tokens_per_step: float
    drafts_per_step: float
    speed_up: float  # ratio of the times for all prompts
    median_speed_up: float  # over prompts


def speculation(
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 200,
    nodes: Annotated[int, typer.Option(min=1, help="Most guesses in a step.")] = 16,
    all_nodes: Annotated[
        bool, typer.Option("--all-nodes", help="Verify that many whether they pay or not.")
    ] = False,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 0.0,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts of each kind.")] = 12,
    heads: Annotated[Path | None, typer.Option(help="Other heads than the model's.")] = None,
    json: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Tokens per step and per second of one request at a time, modes interleaved."""
    bench = Bench.load()
    if heads is not None:
        bench = Bench(
            bench.model, load_heads(heads, bench.model, default_threads()), bench.template
        )
    cost = FixedCost() if all_nodes else None
    engines = {mode: _engine(bench, mode, nodes, cost) for mode in MODES}
    answers = _measure(bench, engines, tokens, temperature, prompts)
    rows = summarise(answers)
    results = {"speculation": [asdict(row) for row in rows]}
    report("speculation", [_table(rows)], results, json, markdown)


def load_prompts(count: int) -> list[tuple[str, str]]:
    """The first prompts of each kind, as (kind, prompt)."""
    found = []
    for path in sorted(PROMPTS.glob("*.jsonl")):
        lines = path.read_text("utf-8").splitlines()[:count]
        found += [(path.stem, jsonlib.loads(line)["prompt"]) for line in lines]
    return found


def _measure(
    bench: Bench, engines: Mapping[Mode, Engine], n_tokens: int, temperature: float, count: int
) -> list[Answer]:
    answers = []
    for number, (kind, prompt) in enumerate(track(load_prompts(count), "answering")):
        request = GenerationRequest(
            bench.prompt(prompt),
            SamplingParams(temperature=temperature, seed=number),
            max_tokens=n_tokens,
        )
        for mode in (*MODES[number % len(MODES) :], *MODES[: number % len(MODES)]):
            (usage,) = run(engines[mode], [request], clients=1).usages
            drafts = usage.accepted_drafts + usage.rejected_drafts
            answers.append(
                Answer(
                    kind,
                    mode.name,
                    usage.completion_tokens,
                    usage.steps,
                    drafts,
                    usage.decode_seconds,
                )
            )
    for engine in engines.values():
        engine.close()
    return answers


def _engine(bench: Bench, mode: Mode, nodes: int, cost: StepCost | None) -> Engine:
    speculates = mode.heads or mode.lookup
    config = EngineConfig(
        n_slots=1,
        n_ctx=2048,
        n_threads=default_threads(),
        draft_nodes=nodes if speculates else 0,
        lookup=mode.lookup,
        cost=cost,
    )
    return Engine(bench.model, bench.heads if mode.heads else None, config)


def summarise(answers: Sequence[Answer]) -> list[Summary]:
    """By kind and mode, then all kinds together. Answers of one prompt follow each other."""
    kinds = sorted({a.kind for a in answers})
    rows = []
    for kind in [*kinds, "all"]:
        for mode in MODES:
            chosen = [a for a in answers if a.mode == mode.name and kind in (a.kind, "all")]
            plain = [a for a in answers if a.mode == "off" and kind in (a.kind, "all")]
            seconds = sum(a.seconds for a in chosen)
            steps = sum(a.steps for a in chosen)
            n_tokens = sum(a.tokens for a in chosen)
            plain_rate = sum(a.tokens for a in plain) / sum(a.seconds for a in plain)
            ratios = [
                (a.tokens / a.seconds) / (p.tokens / p.seconds)
                for a, p in zip(chosen, plain, strict=True)
            ]
            rows.append(
                Summary(
                    kind,
                    mode.name,
                    n_tokens / seconds,
                    n_tokens / steps,
                    sum(a.drafts for a in chosen) / steps,
                    n_tokens / seconds / plain_rate,
                    statistics.median(ratios),
                )
            )
    return rows


def _table(rows: Sequence[Summary]) -> Table:
    table = Table(
        "kind", "guesses from", "tokens/s", "tokens/step", "guesses/step", "speed-up", "median",
        title="one request, by kind of prompt",
    )  # fmt: skip
    for row in rows:
        table.add_row(
            row.kind,
            row.mode,
            f"{row.tokens_per_second:.0f}",
            f"{row.tokens_per_step:.2f}",
            f"{row.drafts_per_step:.1f}",
            f"{row.speed_up:.2f}",
            f"{row.median_speed_up:.2f}",
            end_section=row.mode == MODES[-1].name,
        )
    return table
