"""`llama-medusa list | pull | rm | check`: the models on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import models
from app.cli.names import download, find_model, hub_name_of
from app.settings import CheckSettings, PullSettings, RemoveSettings
from convert.files.disk import human_size
from medusa.errors import MedusaError, ModelLoadError
from medusa.files import noted_checksum, sha256_of


def list_models() -> None:
    """Show the models that are known by name, and those on this machine."""
    from convert.hub.named import cached

    table = Table("name", "size", "Medusa heads", "")
    for entry in models.catalogue().values():
        size = human_size(entry.model_path.stat().st_size) if entry.model_path else "-"
        note = entry.description
        if entry.model_path is None:
            note += f"; to get it: {entry.source.how_to_get}"
        table.add_row(entry.name, size, _yes_or_no(entry.heads_path), note)
    for model in cached():
        table.add_row(
            model.name, human_size(model.n_bytes), _yes_or_no(model.heads), "in the Hub's cache"
        )
    Console().print(table)


def pull(settings: PullSettings) -> None:
    """Download a model of the Hugging Face Hub, or the newest version of it."""
    entry = models.catalogue().get(settings.name)
    if entry is not None:
        raise MedusaError(f"to get {entry.name}, run: {entry.source.how_to_get}")
    name = hub_name_of(settings.name)
    if name is None:
        raise MedusaError(f"{settings.name!r} is not OWNER/NAME[:QUANTISATION]")
    model = download(name, settings)
    _say(f"ready: llama-medusa serve {model.name} ({human_size(model.n_bytes)})")


def remove(settings: RemoveSettings) -> None:
    """Delete a model from the Hub's cache, or what a conversion made."""
    entry = models.catalogue().get(settings.name)
    if entry is not None:
        _remove_converted(entry, settings)
        return
    from convert.hub import named

    wanted = settings.name.lower()
    found = [m for m in named.cached() if wanted in (m.name.lower(), m.repo.lower())]
    if not found:
        raise models.ModelNotFoundError(
            f"{settings.name!r} is not among the models that can be deleted; see llama-medusa list"
        )
    names = ", ".join(model.name for model in found)
    if _is_meant(names, sum(model.n_bytes for model in found), settings):
        for model in found:
            named.remove(model)


def _remove_converted(entry: models.CatalogueEntry, settings: RemoveSettings) -> None:
    if isinstance(entry.source, models.PackageSource):
        raise MedusaError(f"{entry.name} belongs to a Python package, which pip uninstalls")
    if entry.model_path is None:
        raise models.ModelNotFoundError(f"{entry.name} is not on this machine")
    folder = entry.model_path.parent
    n_bytes = sum(path.stat().st_size for path in folder.iterdir())
    if _is_meant(str(folder), n_bytes, settings):
        shutil.rmtree(folder)


def check(settings: CheckSettings) -> None:
    """Compare a model's files with their checksums: the catalogue's, the Hub's, a conversion's."""
    from convert.hub.named import checksum

    files = find_model(settings.name, settings)
    entry = models.catalogue().get(settings.name)
    known = entry.source.checksums if entry else {}
    damaged = []
    for path in filter(None, (files.model, files.heads)):
        expected = known.get(path) or noted_checksum(path) or checksum(path)
        if expected is None:
            state = "no checksum is known"
        elif sha256_of(path) == expected:
            state = "as it should be"
        else:
            state = "damaged"
            damaged.append(str(path))
        _say(f"{path}: {state}")
    if damaged:
        raise ModelLoadError(f"not what was downloaded or converted: {', '.join(damaged)}")


def _is_meant(what: str, n_bytes: int, settings: RemoveSettings) -> bool:
    question = f"delete {what} ({human_size(n_bytes)})?"
    return settings.yes or typer.confirm(question)


def _yes_or_no(heads: Path | None) -> str:
    return "yes" if heads is not None and heads.is_file() else "no"


def _say(line: str) -> None:
    Console().print(escape(line), highlight=False, soft_wrap=True)
