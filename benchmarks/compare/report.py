"""The report: printed, and written with its plots; a short table for the README."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.compare import tables
from benchmarks.compare.plan import Part
from benchmarks.compare.plots import draw
from benchmarks.compare.results import Results
from benchmarks.report import as_markdown, replace_block

_NAME, _SHORT = "compare", "compare-short"
_PARTS = (Part.CLIENTS, Part.ARRIVALS, Part.CONVERSATIONS, Part.REPEATED)

_PUBLISHED = """\
**Figures of others for such a matrix**, on other machines: Vicuna 7B

| | tokens/s | one prompt, s | five one by one, s | five batched, s |
|---|---|---|---|---|
| llama.cpp | | 50 | | 150 |
| vLLM on an A100 | 70 | | 15 | 3.3 |
| vLLM on an A100, Medusa | 100 | | 11 | 2.99 |

What a model of Vicuna 7B's shape does on two cores: [vicuna7b.md](vicuna7b.md)."""


def publish(results: Results, console: Console, markdown: Path | None, readme: Path | None) -> None:
    """Show all tables, and write what is wanted.

    Args:
        results: of a comparison.
        console: where they are printed.
        markdown: gets the report in its block, plots beside it.
        readme: gets the short table in its block.
    """
    for table in _tables(results):
        console.print(table)
    if markdown:
        plots = draw(results, markdown.parent, markdown.stem)
        images = "\n\n".join(f"![{title}]({name})" for title, name in plots.items())
        parts = [_origin(results), images, *map(as_markdown, _tables(results))]
        if _has_matrix(results):
            parts.append(_PUBLISHED)
        _write(markdown, _NAME, "\n\n".join([*parts, _servers(results)]))
    if readme:
        _write(readme, _SHORT, f"{_origin(results)}\n\n{as_markdown(tables.ratios(results))}")


def _tables(results: Results) -> Iterator[Table]:
    if len(results.servers) > 1:
        yield tables.ratios(results)
    for part in _PARTS:
        if tables.scenarios(results, part):
            yield tables.loads(results, part)
    yield tables.kinds(results)
    yield tables.costs(results)
    yield tables.equality(results)
    if _has_matrix(results):
        yield tables.configurations(results)
    if results.decodes:
        yield tables.decodes(results)
    if any(server.trials for server in results.servers):
        yield tables.settings(results)


def _has_matrix(results: Results) -> bool:
    known = set(tables.names(results))
    return any(sample.server not in known for sample in results.samples)


def _origin(results: Results) -> str:
    return (
        f"`{results.command}` on {results.date}, commit {results.commit}; {results.machine}; "
        f"{results.model}, greedy, {results.n_rounds} rounds."
    )


def _servers(results: Results) -> str:
    """Versions and commands, so that anybody can start the same."""
    lines = ["**Servers**", ""]
    for server in results.servers:
        peer = server.peer
        start = shlex.join(Path(part).name if "/" in part else part for part in peer.launch)
        lines.append(f"- {peer.name}, version {peer.version}: `{start or peer.url}`")
    return "\n".join(lines)


def _write(path: Path, name: str, text: str) -> None:
    old = path.read_text("utf-8") if path.exists() else ""
    path.write_text(replace_block(old, name, text), "utf-8")
