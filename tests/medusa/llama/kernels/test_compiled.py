"""The kernels compiled by hand: clean under AddressSanitizer and UBSan, and the same on ARM.

Compiling takes minutes, so all that use it stand in one file: files are what processes share out.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import pytest

from medusa.llama.kernels import doctor

from .compiling import (
    NOT_THIS_PROCESSOR,
    PROGRAM,
    SANITIZE,
    Objects,
    compiled,
    linked,
    sanitizers_work,
)
from .conftest import INSTRUCTION_SETS

pytestmark = pytest.mark.slow

FOR_ARM = ["-O1", "-std=c++17", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall", "-Werror"]
FOR_ARM += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
CROSS, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"

needs_cross = pytest.mark.skipif(
    platform.machine() != "x86_64" or not shutil.which(CROSS) or not shutil.which(EMULATOR),
    reason=f"needs {CROSS} and {EMULATOR} on x86-64",
)

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
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """The kernels, and the program that runs them all, with AddressSanitizer and UBSan."""
    folder = tmp_path_factory.mktemp("sanitized")
    if not sanitizers_work(folder):
        pytest.skip("no g++ with AddressSanitizer and UBSan for x86-64 Linux")
    return compiled("g++", SANITIZE, "x86_64", folder)


def test_kernels_are_clean_under_sanitizers(sanitized: Objects, tmp_path: Path) -> None:
    program = linked("g++", SANITIZE, sanitized, tmp_path)
    results = {}
    for isa in INSTRUCTION_SETS:
        done = subprocess.run([program, isa], capture_output=True, text=True, check=False)
        if done.returncode != NOT_THIS_PROCESSOR:
            assert done.returncode == 0, done.stderr
            results[isa] = done.stdout
    assert results
    assert len(set(results.values())) == 1, "instruction sets differ in their results"


@pytest.mark.real
def test_a_model_with_heads_is_clean_under_sanitizers(sanitized: Objects, tmp_path: Path) -> None:
    library = tmp_path / "libmedusa_kernels.so"
    parts = [out for stem, out in sanitized.items() if stem != PROGRAM.stem]
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
        if not doctor.cpu_features().get(flag):
            continue
        done = subprocess.run(
            [sys.executable, "-c", SERVE, str(library)],
            env=environment | {"LLAMA_MEDUSA_KERNELS_ISA": isa},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.split()[-2:] == ["isa", isa]


def results(command: list[str | Path]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == NOT_THIS_PROCESSOR:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@needs_cross
def test_arm_and_x86_have_the_same_results(sanitized: Objects, tmp_path: Path) -> None:
    expected = results([linked("g++", SANITIZE, sanitized, tmp_path), "avx2"])
    assert len(expected) > 1000
    there = tmp_path / "there"
    there.mkdir()
    objects = compiled(CROSS, FOR_ARM, "aarch64", there)
    neon = linked(CROSS, [*FOR_ARM, "-static"], objects, there)
    for theirs, ours in zip_longest(results([EMULATOR, neon, "neon"]), expected):
        assert theirs == ours
    library = there / "libmedusa_kernels.so"
    parts = [out for stem, out in objects.items() if stem != PROGRAM.stem]
    subprocess.run([CROSS, "-shared", *parts, "-o", library, "-Wl,--no-undefined"], check=True)
