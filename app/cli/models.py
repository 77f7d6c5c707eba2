"""`llama-medusa models list | check`."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import models
from medusa.errors import ModelLoadError
from medusa.files import noted_checksum, sha256_of

models_cli = typer.Typer(help="The models known by name.", no_args_is_help=True)


@models_cli.command("list")
def list_models() -> None:
    """Show the catalogue and what of it is on this machine."""
    table = Table("name", "installed", "Medusa heads", "description")
    for entry in models.catalogue().values():
        installed = "yes" if entry.model_path else entry.source.how_to_get
        heads = "yes" if entry.heads_path and entry.heads_path.is_file() else "no"
        table.add_row(entry.name, installed, heads, entry.description)
    Console().print(table)


@models_cli.command("check")
def check_models(
    name: Annotated[str, typer.Argument(help="Catalogue name or path of a GGUF file.")],
) -> None:
    """Compare a model's files with their checksums: the catalogue's, or a conversion's own."""
    files = models.resolve(name)
    entry = models.catalogue().get(name)
    known = entry.source.checksums if entry else {}
    damaged = []
    for path in filter(None, (files.model, files.heads)):
        expected = known.get(path) or noted_checksum(path)
        if expected is None:
            state = "no checksum is known"
        elif sha256_of(path) == expected:
            state = "as it should be"
        else:
            state = "damaged"
            damaged.append(str(path))
        Console().print(f"{escape(str(path))}: {state}", highlight=False, soft_wrap=True)
    if damaged:
        raise ModelLoadError(f"not what was downloaded or converted: {', '.join(damaged)}")
