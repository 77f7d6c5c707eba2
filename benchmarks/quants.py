"""Quantisations of the default model side by side: size, memory, speed, perplexity, acceptance."""

import logging
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import gguf
import numpy as np
import typer
from rich.progress import track
from rich.table import Table

from benchmarks.report import JsonFile, MarkdownFile, PlotFile, report
from benchmarks.workload import Bench, Timing, run
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.model import Model
from medusa.llama.params import ContextParams
from medusa.llama.quantising import quantize
from medusa.llama.threads import default_threads
from medusa.loading import load_template
from medusa.sampling.softmax import log_softmax
from medusa.speculation.heads.loading import load_heads
from models import DEFAULT_MODEL, resolve

TEXT = Path(__file__).parent / "data" / "perplexity.txt"
_WINDOW = 256
_CLIENTS = (1, 8)
_TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0")


@dataclass(frozen=True)
class QuantFigures:
    """One quantisation; speeds are medians over the rounds, with heads, greedy."""

    name: str
    file_mb: float
    memory_mb: float
    perplexity: float
    tokens_per_second_1: float
    tokens_per_second_8: float
    accepted_share: float
    tokens_per_step: float


def quants(
    json: JsonFile = None,
    markdown: MarkdownFile = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times each speed is measured.")] = 3,
    tokens: Annotated[int, typer.Option(min=8, help="Tokens of each answer.")] = 128,
    plot: PlotFile = None,
) -> None:
    """Compare quantisations made from the default model's Q4_1, the only form it is shipped in.

    So none of them can be better than Q4_1; what their perplexity shows is the further loss.
    """
    logging.getLogger("medusa.llama").setLevel(logging.ERROR)
    shipped = resolve(DEFAULT_MODEL).model
    with TemporaryDirectory() as folder:
        paths = {"Q4_1 as shipped": shipped}
        for name in _TYPES:
            paths[name] = Path(folder) / f"{name}.gguf"
            file_type = int(gguf.LlamaFileType[f"MOSTLY_{name}"])
            quantize(shipped, paths[name], file_type, allow_requantize=True)
        rows = [
            _measure(name, path, rounds, tokens)
            for name, path in track(paths.items(), description="measuring")
        ]
    results = {"quants": [asdict(row) for row in rows]}
    report("quants", [_table(rows)], results, json, markdown)
    if plot is not None:
        draw(rows, plot)


def perplexity(model: Model, text: str) -> float:
    """exp of the mean negative log probability of each token given those before it.

    The text is cut into windows of 256 tokens; the first token of each is not counted.
    """
    tokens = model.tokenize(text, add_special=False)
    context = Context(
        model,
        ContextParams(
            n_ctx=2 * _WINDOW, n_seq_max=1, n_batch=2 * _WINDOW, n_threads=default_threads()
        ),
    )
    batch = Batch(2 * _WINDOW, 1)
    losses = [loss for window in _windows(tokens) for loss in _losses(context, batch, window)]
    context.close()
    return float(np.exp(np.mean(losses)))


def _windows(tokens: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(tokens) - 1, _WINDOW):
        yield tokens[start : start + _WINDOW]


def _losses(context: Context, batch: Batch, tokens: list[int]) -> list[float]:
    """Negative log probabilities of a window's tokens but the first, in nats."""
    context.clear()
    batch.clear()
    batch.add_run(tokens, 0, [0], output=True)
    logits = context.decode(batch).logits
    return [-float(log_softmax(row)[token]) for row, token in zip(logits, tokens[1:], strict=False)]


def _measure(name: str, path: Path, rounds: int, n_tokens: int) -> QuantFigures:
    files = resolve(DEFAULT_MODEL)
    assert files.heads is not None
    before = _memory_mb()
    model = Model(path)
    assert model.chat_template is not None
    heads = load_heads(files.heads, model, default_threads())
    bench = Bench(model, heads, load_template(model, model.chat_template))
    engine = bench.engine(max(_CLIENTS), speculate=True)
    requests = bench.requests(max(_CLIENTS), n_tokens)
    timings: dict[int, list[Timing]] = {clients: [] for clients in _CLIENTS}
    for _ in range(rounds):
        for clients in _CLIENTS:
            timings[clients].append(run(engine, requests, clients))
    memory = _memory_mb() - before
    engine.close()
    usages = timings[1][0].usages
    accepted = sum(usage.accepted_drafts for usage in usages)
    proposed = accepted + sum(usage.rejected_drafts for usage in usages)
    figures = QuantFigures(
        name,
        path.stat().st_size / 1e6,
        memory,
        perplexity(model, TEXT.read_text("utf-8")),
        statistics.median(timing.tokens_per_second for timing in timings[1]),
        statistics.median(timing.tokens_per_second for timing in timings[8]),
        accepted / max(1, proposed),
        timings[1][0].tokens_per_step,
    )
    model.close()
    return figures


def _memory_mb() -> float:
    """Memory that this process holds, mapped files included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def _table(rows: list[QuantFigures]) -> Table:
    table = Table(
        "", "file MB", "memory MB", "perplexity", "tok/s, 1", "tok/s, 8", "accepted", "per step",
        title="SmolLM2-135M-Instruct, all made from its Q4_1",
    )  # fmt: skip
    for row in rows:
        table.add_row(
            row.name,
            f"{row.file_mb:.0f}",
            f"{row.memory_mb:.0f}",
            f"{row.perplexity:.2f}",
            f"{row.tokens_per_second_1:.0f}",
            f"{row.tokens_per_second_8:.0f}",
            f"{100 * row.accepted_share:.0f} %",
            f"{row.tokens_per_step:.2f}",
        )
    return table


def draw(rows: list[QuantFigures], path: Path) -> None:
    """Perplexity and speed over file size; needs matplotlib."""
    from matplotlib import pyplot

    panels = (
        ("perplexity", [("", [row.perplexity for row in rows])]),
        (
            "tokens per second",
            [
                ("1 request", [row.tokens_per_second_1 for row in rows]),
                ("8 requests", [row.tokens_per_second_8 for row in rows]),
            ],
        ),
    )
    sizes = [row.file_mb for row in rows]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(10, 4))
    for panel, (what, series) in zip(axes, panels, strict=True):
        for label, values in series:
            panel.scatter(sizes, values, label=label)
            for row, size, value in zip(rows, sizes, values, strict=True):
                name = row.name.split()[0]
                panel.annotate(name, (size, value), xytext=(4, 4), textcoords="offset points")
        panel.set(xlabel="file, MB", ylabel=what)
        panel.margins(x=0.15, y=0.1)
    axes[1].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
