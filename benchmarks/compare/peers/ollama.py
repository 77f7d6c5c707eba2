"""Ollama, where it is installed: it serves the same GGUF under a name of its own."""

import re
import subprocess
from pathlib import Path

from benchmarks.compare.peers.peer import CONTEXT, SLOTS, Peer

_NAME = "compared"


def ollama(binary: Path, model: Path, folder: Path) -> Peer:
    """With as many requests at a time as the others.

    Args:
        binary: ollama.
        model: GGUF.
        folder: for its copy of the model.
    """
    said = subprocess.run([binary, "--version"], capture_output=True, text=True)
    version = re.search(r"version is (\S+)", said.stdout)
    recipe = folder / "ollama" / "Modelfile"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(f"FROM {model}\nPARAMETER num_ctx {CONTEXT}\n")
    return Peer(
        "Ollama",
        version[1] if version else "unknown",
        (str(binary), "serve"),
        environment={
            "OLLAMA_HOST": "127.0.0.1:{port}",
            "OLLAMA_MODELS": str(folder / "ollama" / "models"),
            "OLLAMA_NUM_PARALLEL": str(SLOTS),
            "OLLAMA_KEEP_ALIVE": "-1",
        },
        prepare=(str(binary), "create", _NAME, "-f", str(recipe)),
    )
