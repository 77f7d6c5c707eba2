"""Whether company and guesses change what is written: greedy answers compared token by token."""

from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.report import JsonFile, MarkdownFile, report
from benchmarks.speculation import load_prompts
from benchmarks.workload import QUESTIONS, Bench, answers
from medusa.engine.requests import GenerationRequest
from medusa.llama import runtime
from medusa.sampling.params import SamplingParams

_TOGETHER = 8

_MORE_QUESTIONS = (
    "Why do leaves change colour in autumn?",
    "Name three ways to save water at home.",
    "What is the difference between weather and climate?",
    "Write a polite reminder about an unpaid invoice.",
    "How do I remove a red wine stain from a carpet?",
    "Explain what an operating system does.",
    "Suggest a name and a slogan for a small bakery.",
    "What makes a good photograph?",
    "Tell me a joke about a mathematician.",
    "How are mountains formed?",
    "Write a haiku about the first snow.",
    "What should a beginner know about investing?",
    "Describe a typical day of a bee.",
    "How do vaccines work?",
    "Give me five tips for learning a language.",
    "What happened during the Industrial Revolution?",
    "Write a Python function that reverses a string.",
    "How does a refrigerator keep food cold?",
    "Plan a birthday party for a ten-year-old.",
    "What are the advantages of public transport?",
)


@dataclass(frozen=True)
class Comparison:
    """How many answers are equal, token by token."""

    what: str
    equal: int
    prompts: int


def exactness(
    prompts: Annotated[int, typer.Option(min=1, help="Prompts to answer.")] = 100,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer.")] = 128,
    json: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Greedy answers with and without guesses, alone and eight at once, on the kernels in use."""
    bench = Bench.load()
    kinds = (prompt for _, prompt in load_prompts(12))
    texts = [*QUESTIONS, *_MORE_QUESTIONS, *kinds][:prompts]
    requests = [
        GenerationRequest(
            bench.prompt(text),
            SamplingParams(temperature=0.0),
            max_tokens=tokens,
            ignore_eos=True,
        )
        for text in texts
    ]
    plain = _answers(bench, requests, n_slots=1, speculate=False)
    rows = []
    for what, n_slots, speculate in (
        ("guesses, alone", 1, True),
        ("no guesses, eight at once", _TOGETHER, False),
        ("guesses, eight at once", _TOGETHER, True),
    ):
        found = _answers(bench, requests, n_slots=n_slots, speculate=speculate)
        equal = sum(a == b for a, b in zip(found, plain, strict=True))
        rows.append(Comparison(what, equal, len(plain)))
    status = runtime.load().kernels
    kernels = f"our kernels, {status.isa}" if status.active else "llama.cpp's kernels"
    table = Table("against no guesses, alone", "equal answers", title=kernels)
    for row in rows:
        table.add_row(row.what, f"{row.equal} of {row.prompts}")
    report(
        "exactness",
        [table],
        {"kernels": kernels, "exactness": [asdict(row) for row in rows]},
        json,
        markdown,
    )


def _answers(
    bench: Bench, requests: list[GenerationRequest], *, n_slots: int, speculate: bool
) -> list[tuple[int, ...]]:
    engine = bench.engine(n_slots, speculate=speculate)
    try:
        return answers(engine, requests)
    finally:
        engine.close()
