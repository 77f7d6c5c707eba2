"""Who is compared: ours, and of the others those that are on this machine or at an address."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.compare.peers import ik_llama, llama_cpp_python, llama_server
from benchmarks.compare.peers.address import at_address
from benchmarks.compare.peers.ik_llama import ik_llama as ik_peer
from benchmarks.compare.peers.ollama import ollama
from benchmarks.compare.peers.ours import PLAIN, ours
from benchmarks.compare.peers.peer import Peer
from benchmarks.compare.results import Trial
from benchmarks.compare.tuning import Measure, tuned

Tuned = tuple[Peer, tuple[Trial, ...]]


@dataclass(frozen=True)
class Others:
    """Where the others are; None: not here.

    Attributes:
        llama_server: binary.
        draft_model: GGUF with which llama-server shall guess.
        ik_python: interpreter of the environment that has ik_llama.cpp.
        llama_cpp_python: whether its server is compared.
        ollama: binary.
        urls: of servers that run, as NAME=URL.
    """

    llama_server: Path | None = None
    draft_model: Path | None = None
    ik_python: Path | None = None
    llama_cpp_python: bool = False
    ollama: Path | None = None
    urls: tuple[str, ...] = ()


def own(model: str, version: str) -> list[Peer]:
    """Ours with guesses, to which all are compared, and without."""
    return [ours(model, version), ours(model, version, name=PLAIN, guesses=False)]


def others(
    there: Others, model: Path, threads: Sequence[int], measure: Measure | None, folder: Path
) -> Iterator[Tuned]:
    """All others with their best settings.

    Args:
        there: where they are.
        model: GGUF.
        threads: numbers that they may try.
        measure: how settings are judged, None: the defaults are taken.
        folder: for files that they need.
    """
    if there.llama_server:
        best = tuned(llama_server.llama_server(there.llama_server, model, threads), measure)
        yield best
        if guessing := llama_server.speculating(best[0]):
            yield tuned(guessing, measure)
        if there.draft_model:
            yield tuned(llama_server.drafting(best[0], there.draft_model), measure)
    if there.llama_cpp_python:
        yield tuned(llama_cpp_python.llama_cpp_python(model, threads), measure)
    if there.ik_python:
        yield tuned(ik_peer(there.ik_python, model, threads), measure)
    if there.ollama:
        yield tuned(ollama(there.ollama, model, folder), measure)
    for url in there.urls:
        yield tuned(at_address(url), measure)


def get(folder: Path) -> None:
    """Build llama-server and install ik_llama.cpp, where they are not there yet.

    Raises:
        subprocess.CalledProcessError: one of them failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "llama-server").exists():
        llama_server.build(folder, [sys.executable, "-m", "pip"])
    if not interpreter(folder).exists():
        ik_llama.install(folder / "ik")


def interpreter(folder: Path) -> Path:
    """Of the environment with ik_llama.cpp."""
    return folder / "ik" / "bin" / "python"
