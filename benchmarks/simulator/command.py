"""`python -m benchmarks simulate`: what no machine here can show."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.report import JsonFile, MarkdownFile, report
from benchmarks.simulator.devices import DEVICES
from benchmarks.simulator.measures import Measures
from benchmarks.simulator.plots import draw
from benchmarks.simulator.scenarios import (
    GROUPS,
    Crowd,
    Division,
    Fleet,
    crowds,
    divisions,
    fleets,
)


def simulate(
    seed: Annotated[int, typer.Option(help="Of all dice.")] = 0,
    json: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Run scheduler, guesses and router in virtual time: 1 to 10,000 clients, 1 to 64 replicas."""
    crowd, fleet, division = list(crowds(seed)), list(fleets(seed)), list(divisions(seed))
    tables = [_devices(), _crowds(crowd), _fleets(fleet), _divisions(division)]
    figures = {
        "crowds": [asdict(each) for each in crowd],
        "fleets": [asdict(each) for each in fleet],
        "divisions": [asdict(each) for each in division],
    }
    report("simulate", tables, figures, json, markdown)
    if markdown is not None:
        draw(crowd, fleet, markdown.parent, markdown.stem)


def _devices() -> Table:
    table = Table("device", "slots", "tokens in the KV cache", "figures", title="Devices")
    for each in DEVICES:
        table.add_row(each.name, str(each.n_slots), f"{each.n_cells:,}", each.source)
    return table


def _crowds(found: Sequence[Crowd]) -> Table:
    table = Table(
        "device", "clients", "tokens/s", "without guesses", "ratio", "first token ms", "p99 ms",
        title="One replica",
    )  # fmt: skip
    for each in found:
        plain = each.plain.tokens_per_second
        table.add_row(
            each.device, f"{each.clients:,}", _speed(each.guessing), _speed(each.plain),
            f"{each.guessing.tokens_per_second / plain:.2f}", *_first(each.guessing),
        )  # fmt: skip
    return table


def _fleets(found: Sequence[Fleet]) -> Table:
    table = Table(
        "replicas", "clients", "router", "tokens/s", "first token ms", "p99 ms", "prompts cached",
        title="A100s behind a router",
    )  # fmt: skip
    for each in found:
        table.add_row(
            str(each.replicas), f"{each.clients:,}", each.router, _speed(each.measures),
            *_first(each.measures), f"{100 * each.measures.cached:.0f} %",
        )  # fmt: skip
    return table


def _divisions(found: Sequence[Division]) -> Table:
    heads = [f"{t.name}: {size} clients, weight {t.weight:g}" for t, size in GROUPS.items()]
    table = Table("policy", *heads, "Jain's index", title="One A100, three keys, tokens/s of each")
    for each in found:
        speeds = [f"{each.tokens_per_second[tenant.name]:,.0f}" for tenant in GROUPS]
        table.add_row(each.policy, *speeds, f"{each.jain:.3f}")
    return table


def _speed(measures: Measures) -> str:
    return f"{measures.tokens_per_second:,.0f}"


def _first(measures: Measures) -> tuple[str, str]:
    return f"{1000 * measures.first_median:,.0f}", f"{1000 * measures.first_p99:,.0f}"
