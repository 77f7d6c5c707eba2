"""`llama-medusa models list`."""

import typer
from rich.console import Console
from rich.table import Table

import models

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
