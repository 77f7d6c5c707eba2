"""How setup.py builds the libraries, and what it says where it cannot."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from .compiling import ROOT

pytestmark = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64",
    reason="the kernels are for x86-64 Linux",
)


def test_without_a_compiler_the_setup_succeeds_and_says_what_is_missing(tmp_path: Path) -> None:
    folders = [f"--build-lib={tmp_path / 'lib'}", f"--build-temp={tmp_path / 'temp'}"]
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", *folders],
        cwd=ROOT,
        env={**os.environ, "CC": "no-such-compiler", "CXX": "no-such-compiler"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    for library in ("libmedusa_kernels", "libmedusa_limits"):
        assert f"{library} WAS NOT BUILT: is there a C++ compiler" in said
    assert not list(tmp_path.rglob("*.so"))
