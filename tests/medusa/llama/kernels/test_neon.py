"""The kernels for ARM, run by qemu-user: the same bits as on x86-64."""

from __future__ import annotations

import platform
import shutil
import subprocess
from itertools import zip_longest
from pathlib import Path

import pytest

from .compiling import NOT_THIS_PROCESSOR, PROGRAM, SANITIZE, Objects, compiled, linked

FLAGS = ["-O1", "-std=c++17", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall", "-Werror"]
FLAGS += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
CROSS, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"

needs_cross = pytest.mark.skipif(
    platform.machine() != "x86_64" or not shutil.which(CROSS) or not shutil.which(EMULATOR),
    reason=f"needs {CROSS} and {EMULATOR} on x86-64",
)


def results(command: list[str | Path]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == NOT_THIS_PROCESSOR:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@needs_cross
@pytest.mark.slow
def test_arm_and_x86_have_the_same_results(sanitized: Objects, tmp_path: Path) -> None:
    expected = results([linked("g++", SANITIZE, sanitized, tmp_path), "avx2"])
    assert len(expected) > 1000
    there = tmp_path / "there"
    there.mkdir()
    objects = compiled(CROSS, FLAGS, "aarch64", there)
    neon = linked(CROSS, [*FLAGS, "-static"], objects, there)
    for theirs, ours in zip_longest(results([EMULATOR, neon, "neon"]), expected):
        assert theirs == ours
    library = there / "libmedusa_kernels.so"
    parts = [out for stem, out in objects.items() if stem != PROGRAM.stem]
    subprocess.run([CROSS, "-shared", *parts, "-o", library, "-Wl,--no-undefined"], check=True)
