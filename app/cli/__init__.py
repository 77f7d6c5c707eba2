"""The command line: `llama-medusa serve | cluster | worker | generate | list | pull | rm | ...`.

Each command declares and runs itself in a file of its own; what is heavy to load, it loads when it
runs. Options come from app/settings.
"""

import typer

from app.cli import cluster, convert, doctor, generate, models, serve, train, worker
from app.cli.from_settings import command
from app.cli.terminal import print_error
from medusa.errors import MedusaError
from models import ModelNotFoundError

cli = typer.Typer(
    name="llama-medusa",
    help="Serve a quantised chat model on this machine, with Medusa heads and continuous batching.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli.command("serve")(command(serve.run))
cli.command("cluster")(command(cluster.run))
cli.command("generate")(command(generate.run))
cli.command("worker")(command(worker.run))
cli.command("train")(command(train.run))
cli.command("doctor")(command(doctor.run))
cli.command("list")(models.list_models)
cli.command("pull")(command(models.pull))
cli.command("rm")(command(models.remove))
cli.command("check")(command(models.check))
cli.add_typer(convert.convert_cli, name="convert")


def main() -> None:
    """Entry point of the `llama-medusa` command; expected errors end in one clear line."""
    try:
        cli(prog_name="llama-medusa")
    except (MedusaError, ModelNotFoundError, ValueError, OSError) as error:
        print_error(error)
        raise SystemExit(1) from None
