"""ik_llama.cpp by its Python package, which has no server: a small one of ours around it."""

import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compare.peers.peer import CONTEXT, Peer

REQUIREMENTS = ("ik-llama-cpp-python==0.1.5", "gguf>=0.17", "jinja2>=3.1", "py-cpuinfo")
"""py-cpuinfo: without it the package does not dare flash attention."""

_SERVER = Path(__file__).with_name("ik_server.py")


def install(folder: Path) -> Path:
    """Install it into an environment of its own, and give that one's interpreter.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
    return python


def ik_llama(python: Path, model: Path, threads: Sequence[int]) -> Peer:
    """One request at a time.

    Args:
        python: interpreter of an environment that has the package.
        model: GGUF.
        threads: numbers to try.
    """
    ask = "from importlib.metadata import version; print(version('ik-llama-cpp-python'))"
    said = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    command = (str(python), str(_SERVER), "--model", str(model), "--port", "{port}")
    return Peer(
        "ik_llama.cpp",
        said.stdout.strip(),
        (*command, "--ctx-size", str(CONTEXT)),
        (
            tuple(("--threads", str(number)) for number in threads),
            (("--flash-attention",), ("--no-flash-attention",)),
        ),
    )
