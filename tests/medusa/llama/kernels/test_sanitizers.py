"""The kernels under AddressSanitizer and UBSan."""

from __future__ import annotations

import os
import platform
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest

from medusa.llama.kernels import doctor

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


FOLDER = ROOT / "medusa" / "llama" / "kernels" / "csrc"

SERVE = """
import sys
from pathlib import Path
from medusa.llama.kernels import library
library.LIBRARY = Path(sys.argv[1])
library.Library.__init__.__defaults__ = (library.LIBRARY,)

from medusa.engine.client import generate
from medusa.engine.config import EngineConfig
from medusa.engine.requests import GenerationRequest
from medusa.llama import runtime
from medusa.loading import open_model
from medusa.sampling.params import SamplingParams
from medusa.speculation.cost import FixedCost
from models import DEFAULT_MODEL, resolve

files = resolve(DEFAULT_MODEL)
config = EngineConfig(n_slots=2, n_ctx=1024, cost=FixedCost())  # guesses whatever they cost
loaded = open_model(files.model, files.heads, config)
status = runtime.load().kernels
assert status.active, status.reason
requests = [
    GenerationRequest(tuple(loaded.model.tokenize(text)), SamplingParams(temperature=0), 12)
    for text in ("The capital of France", "One, two, three, four, " * 20)
]
generated = generate(loaded.engine, requests)
assert sum(each.usage.accepted_drafts for each in generated)
loaded.close()
print("isa", status.isa)
"""
"""The default model with its heads: hooks, products, attention and the heads' own graphs."""


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All sources of the kernels, and the program below, compiled with sanitizers."""
    folder = tmp_path_factory.mktemp("sanitized")
    if not sanitizers_work(folder):
        pytest.skip("no g++ with AddressSanitizer and UBSan for x86-64 Linux")
    with mock.patch("setuptools.setup"):
        flags_for = runpy.run_path(str(ROOT / "setup.py"))["flags_for"]

    def compile_one(source: Path) -> str:
        out = str(folder / (source.stem + ".o"))
        flags = [*SANITIZE, "-fPIC", *flags_for(source)]
        subprocess.run(["g++", *flags, f"-I{FOLDER}", "-c", str(source), "-o", out], check=True)
        return out

    sources = [*FOLDER.glob("*.cpp"), Path(__file__).parent / "sanitize.cpp"]
    sources.sort(key=lambda source: not source.stem.startswith("isa_"))  # they take longest
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = pool.map(compile_one, sources)
        return {s.stem: out for s, out in zip(sources, compiled, strict=True)}


@pytest.mark.slow
def test_kernels_are_clean_under_sanitizers(objects: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "sanitize"
    parts = [
        out for stem, out in objects.items() if stem.startswith(("isa_", "cpu", "kernels", "san"))
    ]
    subprocess.run(["g++", *SANITIZE, *parts, "-o", str(program), "-lpthread"], check=True)
    for isa in INSTRUCTION_SETS:
        done = subprocess.run([program, isa], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.real
def test_a_model_with_heads_is_clean_under_sanitizers(
    objects: dict[str, str], tmp_path: Path
) -> None:
    library = tmp_path / "libmedusa_kernels.so"
    parts = [out for stem, out in objects.items() if stem != "sanitize"]
    subprocess.run(["g++", *SANITIZE, "-shared", *parts, "-o", str(library), "-ldl"], check=True)
    runtimes = [
        subprocess.check_output(["g++", f"-print-file-name=lib{name}.so"], text=True).strip()
        for name in ("asan", "ubsan")
    ]
    environment = {
        **os.environ,
        "LD_PRELOAD": ":".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own are many
    }
    for isa, flag in INSTRUCTION_SETS.items():
        if not doctor.cpu_features()[flag]:
            continue
        done = subprocess.run(
            [sys.executable, "-c", SERVE, str(library)],
            env=environment | {"LLAMA_MEDUSA_KERNELS_ISA": isa},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.split()[-2:] == ["isa", isa]
