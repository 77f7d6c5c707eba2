"""What all commands do with the terminal."""

import logging

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from app.json_logs import JsonFormatter
from app.settings.running import LogFormat


def set_up_logging(verbose: bool, log_format: LogFormat = LogFormat.TEXT) -> None:
    """Show warnings, and with `verbose` all that llama.cpp says; as JSON also what `app` tells."""
    handler: logging.Handler
    if log_format is LogFormat.JSON:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter())
        logging.getLogger("app").setLevel(logging.INFO)
    else:
        handler = RichHandler(console=Console(stderr=True), show_path=False)
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("medusa.llama").setLevel(logging.DEBUG if verbose else logging.ERROR)


def print_error(error: Exception | str) -> None:
    """Say in one line what went wrong."""
    Console(stderr=True).print(
        f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True
    )
