"""llama-medusa: this checkout, or another revision of it."""

import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.compare.peers.peer import CONTEXT, SLOTS, Peer

NAME = "llama-medusa"
PLAIN = f"{NAME}, no guesses"


def ours(
    model: str,
    version: str,
    *,
    name: str = NAME,
    guesses: bool = True,
    heads: Path | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Peer:
    """Our server with its defaults and as many slots as the others.

    Args:
        model: what `serve` takes.
        version: commit.
        name: in reports.
        guesses: whether it speculates.
        heads: a heads file, None: those of the model.
        environment: variables beside ours.
        folder: of the checkout, None: this one.
    """
    options = ["--parallel", str(SLOTS), "--ctx-size", str(SLOTS * CONTEXT)]
    options += ["--heads", str(heads)] if heads else []
    options += [] if guesses else ["--draft-nodes", "0"]
    return Peer(
        name,
        version,
        (sys.executable, "-m", "app", "serve", model, "--port", "{port}", *options),
        environment=environment or {},
        folder=folder,
    )
