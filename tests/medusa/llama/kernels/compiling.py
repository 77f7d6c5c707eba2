"""The kernels compiled by hand: with sanitizers, or for another processor."""

from __future__ import annotations

import platform
import runpy
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from medusa.llama.threads import default_threads

ROOT = Path(__file__).parents[4]
FOLDER = ROOT / "medusa" / "llama" / "kernels" / "csrc"
PROGRAM = Path(__file__).parent / "exercise.cpp"
NOT_THIS_PROCESSOR = 2
"""What the program ends with where it is asked for an instruction set that is not there."""

SANITIZE = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
SANITIZE += ["-fno-sanitize=alignment"]  # ggml hands out any, and kernels load unaligned
SANITIZE += ["-fno-sanitize=null,object-size"]  # AddressSanitizer sees them, at a quarter less work
SANITIZE += ["-std=c++17", "-ffp-contract=off", "-w"]

Objects = Mapping[str, str]
"""Compiled files by the names of their sources."""


def sanitizers_work(folder: Path) -> bool:
    """Whether a compiler and the sanitizers' libraries are here, and a processor to try."""
    if platform.system() != "Linux" or platform.machine() != "x86_64" or not shutil.which("g++"):
        return False
    (folder / "empty.cpp").write_text("int main() {}")
    command = ["g++", *SANITIZE, "empty.cpp", "-o", "empty"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


def compiled(compiler: str, flags: Sequence[str], machine: str, folder: Path) -> Objects:
    """All sources of the kernels for a machine, and the program that runs them all."""
    with mock.patch("setuptools.setup"):
        build = runpy.run_path(str(ROOT / "setup.py"))
    flags_for: Callable[[Path], list[str]] = build["flags_for"]

    def compile_one(source: Path) -> str:
        out = str(folder / (source.stem + ".o"))
        command = [compiler, *flags, "-fPIC", *flags_for(source), f"-I{FOLDER}", "-c", str(source)]
        subprocess.run([*command, "-o", out], check=True)
        return out

    sources = [source for source in FOLDER.glob("*.cpp") if build["is_for"](machine, source)]
    sources.append(PROGRAM)
    sources.sort(key=lambda source: not source.stem.startswith("isa_"))  # they take longest
    with ThreadPoolExecutor(default_threads()) as pool:
        results = pool.map(compile_one, sources)
        return {s.stem: out for s, out in zip(sources, results, strict=True)}


def linked(compiler: str, flags: Sequence[str], objects: Objects, folder: Path) -> Path:
    """The program, from what `compiled` made."""
    program = folder / PROGRAM.stem
    parts = [
        out
        for stem, out in objects.items()
        if stem.startswith(("isa_", "cpu", "kernels", PROGRAM.stem))
    ]
    subprocess.run([compiler, *flags, *parts, "-o", str(program), "-lpthread"], check=True)
    return program
