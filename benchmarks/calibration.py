"""How far heads' probabilities can be trusted: the counts that came with them, as a plot."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from benchmarks.report import JsonFile, MarkdownFile, PlotFile, report
from medusa.speculation.calibration import MIDDLES
from medusa.speculation.heads.reading import read_heads
from models import DEFAULT_MODEL, resolve

_FEWEST = 30
"""Bins with fewer trials say nothing."""


def calibration(
    plot: PlotFile = None,
    heads: Annotated[Path | None, typer.Option(help="Other heads than the default's.")] = None,
    json: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Acceptance of each head's best guess by the probability that the head gives it."""
    path = heads or resolve(DEFAULT_MODEL).heads
    assert path is not None
    counts = read_heads(path).header.calibration
    if counts is None:
        raise typer.BadParameter(f"{path} holds no calibration")
    hits, trials = counts[0, :, 0], counts[1, :, 0]  # [n_heads, bins] of rank 1
    rates = np.where(trials >= _FEWEST, hits / np.maximum(trials, 1), np.nan)
    table = Table("head", *(f"{middle:.2f}" for middle in MIDDLES), title="accepted")
    for head, row in enumerate(rates, start=1):
        table.add_row(str(head), *("-" if np.isnan(rate) else f"{rate:.2f}" for rate in row))
    results = {"acceptance": [list(row) for row in np.nan_to_num(rates)]}
    report("calibration", [table], results, json, markdown)
    if plot is not None:
        draw(rates, plot)


def draw(rates: np.ndarray, path: Path) -> None:
    """A reliability plot of [n_heads, bins] acceptance rates; needs matplotlib."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 5))
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="as the head says")
    for head, row in enumerate(rates, start=1):
        axes.plot(MIDDLES, row, marker="o", label=f"head {head}")
    axes.set(
        xlabel="probability given by the head",
        ylabel="accepted",
        title="Best guesses on held-out answers",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
