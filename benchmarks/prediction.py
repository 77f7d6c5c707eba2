"""Predicted outputs: an edited text comes back, with and without being told what it was."""

import statistics
from dataclasses import dataclass, replace
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.report import JsonFile, MarkdownFile, report
from benchmarks.workload import Bench, answers, run
from medusa.engine.engine import Engine
from medusa.engine.requests import GenerationRequest
from medusa.sampling.params import SamplingParams

_FILES = (
    "Write a long Python module with a class for a bank account and functions that use it.",
    "Write a long article about the history of bread, with several sections.",
    "Write a long HTML page about a small museum.",
)
_TEMPERATURE = 0.8
"""Without chance so small a model repeats itself, which is guessed without a prediction, too."""
_ROUNDS_BEFORE = 1  # that warm up what is measured


@dataclass(frozen=True)
class Pair:
    """One answer, generated in turns without and with its prediction. Times are medians."""

    text: str
    tokens: int
    accepted: int
    rejected: int
    plain_ms: float
    predicted_ms: float
    speed_up: float  # median of the ratios of neighbours


def prediction(
    tokens: Annotated[int, typer.Option(min=10, help="Tokens of the answers.")] = 500,
    edits: Annotated[int, typer.Option(min=0, help="Places where the prediction differs.")] = 6,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each is generated.")] = 5,
    json: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Compare answers that come with a prediction with those without, on the default model."""
    bench = Bench.load()
    engine = bench.engine(1, speculate=True)
    sampling = SamplingParams(temperature=_TEMPERATURE, seed=1)
    pairs = []
    for text in _FILES:
        plain = GenerationRequest(bench.prompt(text), sampling, tokens, ignore_eos=True)
        (answer,) = answers(engine, [plain])
        told = replace(plain, prediction=edited(answer, edits))
        pairs.append(_measure(engine, text, answer, plain, told, rounds))
    engine.close()
    title = f"{tokens} tokens, {edits} places edited; medians of {rounds} rounds in turns"
    table = Table(
        "answer to", "predicted tokens in it", "not in it", "ms without", "ms with", "speed-up",
        title=title,
    )  # fmt: skip
    for pair in pairs:
        table.add_row(
            pair.text, str(pair.accepted), str(pair.rejected), f"{pair.plain_ms:.0f}",
            f"{pair.predicted_ms:.0f}", f"{pair.speed_up:.2f}",
        )  # fmt: skip
    report("prediction", [table], {"pairs": [vars(pair) for pair in pairs]}, json, markdown)


def edited(answer: tuple[int, ...], edits: int) -> tuple[int, ...]:
    """An answer as it was before somebody changed it: in turns a few tokens other, more, fewer."""
    text = list(answer)
    for number in reversed(range(edits)):
        place = (number + 1) * len(answer) // (edits + 1)
        other = list(answer[number : number + 3])[::-1]
        match number % 3:
            case 0:
                text[place : place + 3] = other
            case 1:
                text[place:place] = other
            case _:
                del text[place : place + 3]
    return tuple(text)


def _measure(
    engine: Engine,
    text: str,
    answer: tuple[int, ...],
    plain: GenerationRequest,
    told: GenerationRequest,
    rounds: int,
) -> Pair:
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for number in range(_ROUNDS_BEFORE + rounds):
        for has_prediction, request in ((False, plain), (True, told)):
            timing = run(engine, [replace(request, id=f"{text} {number} {has_prediction}")], 1)
            if number >= _ROUNDS_BEFORE:
                seconds[has_prediction].append(timing.usages[0].decode_seconds)
    (again,) = answers(engine, [replace(told, id="again")])
    assert again == answer, "the prediction changed the answer"
    predicted = timing.usages[0].predicted
    assert predicted is not None
    ratios = [a / b for a, b in zip(seconds[False], seconds[True], strict=True)]
    return Pair(
        text,
        len(answer),
        *predicted,
        1000 * statistics.median(seconds[False]),
        1000 * statistics.median(seconds[True]),
        statistics.median(ratios),
    )
