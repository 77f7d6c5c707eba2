"""`python -m benchmarks compare` and `peers`."""

import datetime
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.compare import lineup
from benchmarks.compare.comparison import Choice, machine, run
from benchmarks.compare.lineup import Others
from benchmarks.compare.peers.llama_cpp_python import is_installed
from benchmarks.compare.prompts import own_prompts, read_dataset
from benchmarks.compare.report import publish
from benchmarks.compare.results import Results
from benchmarks.report import commit, measured_by, ready
from models import cache_folder

_Folder = Annotated[
    Path | None, typer.Option("--peers", help="Folder of `peers`; default: in the cache.")
]


def peers(folder: _Folder = None) -> None:
    """Build llama.cpp's llama-server and install ik_llama.cpp, outside of the project."""
    lineup.get(folder or _default_folder())


def compare(
    quick: Annotated[
        bool, typer.Option("--quick", help="One short round; no search for settings, no matrix.")
    ] = False,
    minutes: Annotated[
        float, typer.Option(min=0, help="Rounds are measured while they fit; at least one.")
    ] = 38,
    against: Annotated[
        str | None, typer.Option(help="Compare only with this revision of ours.")
    ] = None,
    only_ours: Annotated[
        bool, typer.Option("--only-ours", help="Leave out servers that are not named here.")
    ] = False,
    url: Annotated[
        list[str] | None, typer.Option(help="A server that runs: NAME=URL. May be repeated.")
    ] = None,
    llama_server: Annotated[Path | None, typer.Option(help="llama.cpp's binary.")] = None,
    draft_model: Annotated[
        Path | None, typer.Option(help="GGUF with which llama-server shall guess.")
    ] = None,
    folder: _Folder = None,
    model: Annotated[Path | None, typer.Option(help="GGUF; default: the default model.")] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="Ask what an MT-bench, Spec-Bench or ShareGPT file holds.")
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option("--json", callback=ready, help="Write the figures here after every round."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Add rounds to those in the --json file.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Measure nothing, take the figures from this file.")
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(callback=ready, help="Write the report here, its plots beside it."),
    ] = None,
    readme: Annotated[
        Path | None, typer.Option(callback=ready, help="Write the short table here.")
    ] = None,
) -> None:
    """Ours and other servers on the same model, machine and prompts, in turns."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server is left behind
    results = Results.load(report) if report else None
    if results is None:
        where = folder or _default_folder()
        there = Others(urls=tuple(url or ())) if only_ours else _here(where, url or [])
        if llama_server:
            there = replace(there, llama_server=llama_server)
        choice = Choice(
            quick,
            minutes,
            read_dataset(dataset) if dataset else own_prompts(),
            model.resolve() if model else None,
            against,
            replace(there, draft_model=draft_model),
            where,
        )
        results = _begun(choice, json if resume else None)
        run(choice, results, lambda: results.save(json) if json else None, _progress())
    publish(results, Console(), markdown, readme)


def _begun(choice: Choice, json: Path | None) -> Results:
    """Results without a sample, or those of a file to go on with."""
    if json is None:
        return Results(
            command=measured_by(),
            date=str(datetime.date.today()),
            commit=commit(),
            machine=machine(),
            model=choice.model_path.name,
            scenarios=choice.scenarios(),
        )
    results = Results.load(json)
    if choice.against or (results.commit, results.machine) != (commit(), machine()):
        raise typer.BadParameter(f"{json} was measured elsewhere, or in another commit")
    return results


def _here(folder: Path, urls: list[str]) -> Others:
    """All that are on this machine."""
    binary = shutil.which("llama-server", path=folder) or shutil.which("llama-server")
    found = shutil.which("ollama")
    interpreter = lineup.interpreter(folder)
    return Others(
        llama_server=Path(binary) if binary else None,
        ik_python=interpreter if interpreter.exists() else None,
        llama_cpp_python=is_installed(),
        ollama=Path(found) if found else None,
        urls=tuple(urls),
    )


def _default_folder() -> Path:
    return cache_folder() / "peers"


def _progress() -> Callable[[str], None]:
    """Says what is being measured, and since when."""
    began = time.monotonic()
    return lambda text: typer.echo(f"{time.monotonic() - began:6.0f} s  {text}", err=True)
