"""llama-cpp-python's own server: one request at a time, with the llama.cpp that ours runs too."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from benchmarks.compare.peers.peer import CONTEXT, Peer
from medusa.llama.processor import tiles_are_doubtful

_TILELESS = "benchmarks.compare.peers.without_tiles"
_NEEDS = ("pydantic_settings", "dotenv", "starlette_context")


def is_installed() -> bool:
    """Whether what its server needs is there, beside llama-cpp-python itself."""
    return all(find_spec(name) for name in _NEEDS)


def llama_cpp_python(model: Path, threads: Sequence[int]) -> Peer:
    """A new request does not end the one before, as it would by default.

    Args:
        model: GGUF.
        threads: numbers to try.
    """
    module = _TILELESS if tiles_are_doubtful() else "llama_cpp.server"
    command = (sys.executable, "-m", module, "--model", str(model), "--port", "{port}")
    return Peer(
        "llama-cpp-python",
        version("llama_cpp_python"),
        (*command, "--n_ctx", str(CONTEXT), "--interrupt_requests", "false"),
        (
            tuple(("--n_threads", str(number)) for number in threads),
            (("--flash_attn", "true"), ("--flash_attn", "false")),
            (("--logits_all", "false"), ("--logits_all", "true")),
        ),
    )
