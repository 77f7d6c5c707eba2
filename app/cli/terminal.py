"""What all commands do with the terminal."""

import logging

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape


def set_up_logging(verbose: bool) -> None:
    """Show warnings, and with `verbose` all that llama.cpp says."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(name)s: %(message)s",
        handlers=[RichHandler(console=Console(stderr=True), show_path=False)],
    )
    logging.getLogger("medusa.llama").setLevel(logging.DEBUG if verbose else logging.ERROR)


def print_error(error: Exception | str) -> None:
    """Say in one line what went wrong."""
    Console(stderr=True).print(
        f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True
    )
