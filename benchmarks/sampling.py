"""What it takes to choose a token: ours and llama.cpp's samplers on the same rows, in turns."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from benchmarks.llama_samplers import LlamaChain
from benchmarks.report import JsonFile, MarkdownFile, report
from medusa.llama import runtime
from medusa.sampling.params import Dry, SamplingParams
from medusa.sampling.sampler import Sampler

_VOCABULARIES = (49_152, 152_064)
_TEMPERATURES = (0.2, 1.0, 2.0, 5.0)
_PROMPT_TOKENS = 2000
_SPREAD = 2.5  # standard deviation of the logits: at temperature 1 a model in doubt

_SETTINGS: dict[str, SamplingParams] = {
    "temperature alone": SamplingParams(),
    "top_k 40": SamplingParams(top_k=40),
    "top_p 0.95": SamplingParams(top_p=0.95),
    "min_p 0.05": SamplingParams(min_p=0.05),
    "typical_p 0.95": SamplingParams(typical_p=0.95),
    "top_n_sigma 1": SamplingParams(top_n_sigma=1.0),
    "xtc": SamplingParams(xtc_probability=0.5),
    "dynatemp 0.1": SamplingParams(dynatemp_range=0.1),
    "penalties": SamplingParams(
        repetition_penalty=1.1, presence_penalty=0.1, penalty_last_n=_PROMPT_TOKENS
    ),
    "dry": SamplingParams(dry=Dry(0.8, penalty_last_n=_PROMPT_TOKENS)),
    "mirostat 1": SamplingParams(mirostat=1),
    "mirostat 2": SamplingParams(mirostat=2),
    "top_k 40, top_p 0.95, min_p 0.05": SamplingParams(top_k=40, top_p=0.95, min_p=0.05),
}


@dataclass(frozen=True)
class Cost:
    """Processor time for a token in milliseconds, medians."""

    sampler: str
    n_vocab: int
    temperature: float
    ours: float
    theirs: float


def sampling(
    tokens: Annotated[int, typer.Option(min=1, help="Tokens chosen with each setting.")] = 60,
    json: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Processor time that each sampler takes for a token, by temperature and vocabulary."""
    runtime.load()
    costs = list(_measure(tokens))
    tables = [_table(costs, n_vocab) for n_vocab in _VOCABULARIES]
    report("sampling", tables, {"sampling": [asdict(cost) for cost in costs]}, json, markdown)


def _measure(tokens: int) -> Iterator[Cost]:
    rng = np.random.default_rng(0)
    for n_vocab in _VOCABULARIES:
        rows = rng.normal(0, _SPREAD, (8, n_vocab)).astype(np.float32)
        prompt = rng.integers(0, n_vocab, _PROMPT_TOKENS).tolist()
        for name, settings in _SETTINGS.items():
            for temperature in _TEMPERATURES:
                params = replace(settings, temperature=temperature, seed=1)
                sampler = Sampler(params, prompt)
                with LlamaChain(params, n_vocab, prompt, draws=True) as chain:
                    ours, theirs = [], []
                    for number in range(tokens):
                        row = rows[number % len(rows)]
                        ours.append(_milliseconds(sampler.sample, row))
                        theirs.append(_milliseconds(chain.apply, row))
                yield Cost(
                    name, n_vocab, temperature, statistics.median(ours), statistics.median(theirs)
                )


def _milliseconds(work: Callable[[np.ndarray], object], row: np.ndarray) -> float:
    """Processor time, which other processes on the machine hardly change."""
    began = time.thread_time()
    work(row)
    return 1000 * (time.thread_time() - began)


def _table(costs: list[Cost], n_vocab: int) -> Table:
    title = f"{n_vocab:,} tokens: ms a token, ours / llama.cpp's"
    table = Table("sampler", *(f"temperature {t:g}" for t in _TEMPERATURES), title=title)
    for name in _SETTINGS:
        cells = [
            f"{cost.ours:.2f} / {cost.theirs:.2f}"
            for cost in costs
            if cost.n_vocab == n_vocab and cost.sampler == name
        ]
        table.add_row(name, *cells)
    return table
