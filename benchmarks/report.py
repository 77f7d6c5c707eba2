"""What every benchmark does with its figures: show them, and write them where they are wanted."""

import datetime
import json as jsonlib
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def ready(path: Path | None) -> Path | None:
    """A path that something is written to in the end: its folder is made before anything begins."""
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise typer.BadParameter(f"{path.parent} cannot be made a folder") from error
    return path


JsonFile = Annotated[
    Path | None, typer.Option("--json", callback=ready, help="Also write the figures here.")
]
MarkdownFile = Annotated[
    Path | None,
    typer.Option(
        "--markdown",
        callback=ready,
        help="Also write the tables here, over those of before.",
    ),
]
PlotFile = Annotated[Path | None, typer.Option(callback=ready, help="Also draw the figures here.")]

_DESTINATIONS = ("--json", "--markdown", "--readme")
_ROOT = Path(__file__).parents[1]


def report(
    name: str,
    tables: Sequence[Table],
    results: Mapping[str, object],
    json: Path | None,
    markdown: Path | None,
) -> None:
    """Print the tables and write what was asked for, with a description of the machine.

    Args:
        name: of the benchmark; says which tables of a Markdown file are replaced.
        tables: all figures that people read.
        results: all figures.
        json, markdown: where they are written, None: nowhere.
    """
    for table in tables:
        Console().print(table)
    if json is not None:
        machine = {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.system(),
        }
        json.write_text(jsonlib.dumps({"machine": machine, **results}, indent=2) + "\n")
    if markdown is not None:
        old = markdown.read_text("utf-8") if markdown.exists() else ""
        today = datetime.date.today()
        origin = (
            f"`{measured_by()}` on {today}, "
            f"commit {commit()}; {cpu_name()}, {os.cpu_count()} cores."
        )
        text = "\n\n".join([origin, *map(as_markdown, tables)])
        markdown.write_text(replace_block(old, name, text), "utf-8")


def as_markdown(table: Table) -> str:
    """A table of strings in Markdown, its title above it in bold."""
    columns = [[str(column.header), *map(str, column.cells)] for column in table.columns]
    head, *rows = [f"| {' | '.join(row)} |" for row in zip(*columns, strict=True)]
    title = [f"**{table.title}**", ""] if table.title else []
    return "\n".join([*title, head, "|" + "---|" * len(columns), *rows])


def replace_block(document: str, name: str, text: str) -> str:
    """The document with `text` in the block of that name, which is added at the end if missing."""
    begin, end = f"<!-- measured: {name} -->", f"<!-- end of {name} -->"
    block = f"{begin}\n{text}\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(document):
        return pattern.sub(lambda _: block, document)
    return f"{document.rstrip()}\n\n{block}\n".lstrip()


def cpu_name() -> str:
    """Model name of the CPU, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def measured_by() -> str:
    """The command that runs, without what only says where figures go."""
    found = []
    rest = iter(sys.argv[1:])
    for argument in rest:
        if argument in _DESTINATIONS:
            next(rest, None)
        elif argument.partition("=")[0] not in _DESTINATIONS:
            found.append(argument)
    return f"python -m benchmarks {shlex.join(found)}"


def commit() -> str:
    """The commit of this checkout, marked where files differ from it."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=_ROOT, capture_output=True, text=True
        )
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"
