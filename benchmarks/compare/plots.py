"""Results as small SVG files, the same for the same figures."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.compare.plan import Part
from benchmarks.compare.results import Results
from benchmarks.compare.statistics import Spread
from benchmarks.compare.tables import (
    Figure,
    first_token,
    names,
    ratio_to,
    scenarios,
    speed,
    values,
)  # fmt: skip

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLE: Any = {"svg.hashsalt": "compare", "svg.fonttype": "none", "font.size": 9}


def draw(results: Results, folder: Path, stem: str) -> Mapping[str, str]:
    """Draw what there are figures for, and give each file's name by its title."""
    import matplotlib

    found = {}
    with matplotlib.rc_context(_STYLE):
        for title, suffix, width, paint in _plots(results):
            name = f"{stem}-{suffix}.svg"
            _save(folder / name, title, width, paint)
            found[title] = name
    return found


def _plots(results: Results) -> Iterator[tuple[str, str, float, Callable[["Axes"], None]]]:
    if len(scenarios(results, Part.CLIENTS)) > 1:
        yield (
            "Throughput", "throughput", 6, lambda axes: _by_clients(
                axes, results, speed, "tokens per second of all clients"
            ),
        )  # fmt: skip
        yield (
            "Time to first token", "first-token", 6, lambda axes: _by_clients(
                axes, results, first_token, "median, ms", logarithmic=True
            ),
        )  # fmt: skip
    if scenarios(results, Part.KINDS) and len(results.servers) > 1:
        yield "How many times as fast, by kind", "kinds", 10, lambda axes: _kinds(axes, results)
    if results.decodes:
        yield "Cost of a decode", "decode", 6, lambda axes: _decodes(axes, results)


def _save(path: Path, title: str, width: float, paint: Callable[["Axes"], None]) -> None:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(width, 4), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.grid(alpha=0.3)
    paint(axes)
    axes.legend(fontsize=8)
    metadata: dict[str, Any] = {"Date": None, "Creator": None}
    figure.savefig(path, metadata=metadata)


def _by_clients(
    axes: "Axes", results: Results, figure: Figure, label: str, *, logarithmic: bool = False
) -> None:
    clients = {s.name: s.clients for s in results.scenarios if s.part is Part.CLIENTS}
    for name in names(results):
        found = {n: values(results.of(name, each), figure) for each, n in clients.items()}
        spreads = {n: Spread.of(each) for n, each in found.items() if each}
        axes.errorbar(
            list(spreads),
            [each.median for each in spreads.values()],
            [
                [each.median - each.low for each in spreads.values()],
                [each.high - each.median for each in spreads.values()],
            ],
            marker=".",
            capsize=2,
            label=name,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(clients.values()), [str(n) for n in clients.values()])
    axes.set(xlabel="clients", ylabel=label)
    if logarithmic:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)


def _kinds(axes: "Axes", results: Results) -> None:
    kinds = scenarios(results, Part.KINDS)
    others = names(results)[1:]
    width = 0.8 / len(others)
    for place, name in enumerate(others):
        ratios = [ratio_to(results, name, kind, speed) for kind in kinds]
        bars = {n: each.value for n, each in enumerate(ratios) if each is not None}
        axes.bar([n + place * width for n in bars], list(bars.values()), width, label=name)
    axes.axhline(1, color="black", linewidth=0.8)
    middle = 0.4 - width / 2
    axes.set_xticks([n + middle for n in range(len(kinds))], kinds, rotation=20, ha="right")
    axes.set_ylabel(f"tokens/s of {names(results)[0]} over theirs")


def _decodes(axes: "Axes", results: Results) -> None:
    for isa in dict.fromkeys(decode.isa for decode in results.decodes):
        rows = [decode for decode in results.decodes if decode.isa == isa]
        sizes = [decode.n for decode in rows]
        axes.loglog(sizes, [decode.ours for decode in rows], marker=".", label=f"ours, {isa}")
        axes.loglog(sizes, [decode.floor for decode in rows], "--", label=f"floor, {isa}")
    first = [decode for decode in results.decodes if decode.isa == results.decodes[0].isa]
    axes.loglog(
        [decode.n for decode in first], [decode.stock for decode in first],
        marker=".", color="black", label="llama.cpp's kernels",
    )  # fmt: skip
    axes.set(xlabel="tokens in one decode", ylabel="ms")
