"""The kernels under AddressSanitizer and UBSan."""

from __future__ import annotations

import os
import platform
import runpy
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest

from .conftest import INSTRUCTION_SETS, ROOT

SANITIZE = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize=alignment"]
SANITIZE += ["-fno-sanitize-recover=all", "-std=c++17", "-w"]
# ggml hands out any alignment, and the kernels read through unaligned loads.


def sanitizers_work(folder: Path) -> bool:
    """Whether a compiler and the sanitizers' libraries are here, and a processor to try."""
    if platform.system() != "Linux" or platform.machine() != "x86_64" or not shutil.which("g++"):
        return False
    (folder / "empty.cpp").write_text("int main() {}")
    command = ["g++", *SANITIZE, "empty.cpp", "-o", "empty"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_kernels_are_clean_under_sanitizers(tmp_path: Path) -> None:
    if not sanitizers_work(tmp_path):
        pytest.skip("no g++ with AddressSanitizer and UBSan for x86-64 Linux")
    with mock.patch("setuptools.setup"):
        isa_flags = runpy.run_path(str(ROOT / "setup.py"))["ISA_FLAGS"]
    folder = ROOT / "medusa" / "llama" / "kernels" / "csrc"
    sources = [
        *folder.glob("isa_*.cpp"),
        folder / "cpu.cpp",
        Path(__file__).parent / "sanitize.cpp",
    ]

    def compile_one(source: Path) -> str:
        out = str(tmp_path / (source.stem + ".o"))
        flags = SANITIZE + isa_flags.get(source.name, [])
        subprocess.run(["g++", *flags, f"-I{folder}", "-c", str(source), "-o", out], check=True)
        return out

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    program = tmp_path / "sanitize"
    subprocess.run(["g++", *SANITIZE, *objects, "-o", str(program), "-lpthread"], check=True)
    for isa in INSTRUCTION_SETS:
        done = subprocess.run([program, isa], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
