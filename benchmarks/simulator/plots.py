"""Simulations as one SVG file, the same for the same figures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.simulator.measures import Measures
from benchmarks.simulator.scenarios import Crowd, Fleet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLE: Any = {"svg.hashsalt": "simulate", "svg.fonttype": "none", "font.size": 9}


def draw(crowds: Sequence[Crowd], fleets: Sequence[Fleet], folder: Path, stem: str) -> None:
    """Draw throughput and first tokens by clients, and what routers leave to be computed."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(11, 3.6), layout="constrained")
        FigureCanvasSVG(figure)
        speed, first, router = figure.subplots(1, 3)
        _by_clients(speed, crowds, "tokens per second", lambda each: each.tokens_per_second)
        _by_clients(first, crowds, "first token, median, s", lambda each: each.first_median)
        _by_replicas(router, fleets)
        for axes in (speed, first, router):
            axes.grid(alpha=0.3)
            axes.legend(fontsize=7)
        metadata: dict[str, Any] = {"Date": None, "Creator": None}
        figure.savefig(folder / f"{stem}.svg", metadata=metadata)


def _by_clients(
    axes: "Axes", crowds: Sequence[Crowd], label: str, figure: Callable[[Measures], float]
) -> None:
    for device in dict.fromkeys(each.device for each in crowds):
        own = [each for each in crowds if each.device == device]
        axes.loglog(
            [each.clients for each in own],
            [figure(each.guessing) for each in own],
            marker=".",
            label=device,
        )
    axes.set(title="One replica", xlabel="clients", ylabel=label)


def _by_replicas(axes: "Axes", fleets: Sequence[Fleet]) -> None:
    for name in dict.fromkeys(each.router for each in fleets):
        own = [each for each in fleets if each.router == name]
        axes.plot(
            [each.replicas for each in own],
            [100 * (1 - each.measures.cached) for each in own],
            marker=".",
            label=name,
        )
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.set(title="A100s", xlabel="replicas", ylabel="prompt tokens to compute, %")
