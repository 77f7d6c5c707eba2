"""What `make` would run, asked for without running it."""

import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RPC = "-DGGML_RPC=ON"
CUDA = "-DGGML_CUDA=on"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout where everything was installed and llama.cpp built for the CPU; its pip caches."""
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    pip = tmp_path / ".venv" / "bin" / "pip"
    pip.write_text("#!/bin/sh\necho /pips-cache\n")
    pip.chmod(0o755)
    built_with(tmp_path, RPC)
    return tmp_path


def built_with(checkout: Path, arguments: str) -> None:
    (checkout / ".venv" / ".cmake-args").write_text(arguments + "\n")
    (checkout / ".venv" / ".installed").touch()


def commands(checkout: Path, cmake_args: str | None) -> list[str]:
    """The commands of `make setup` with CMAKE_ARGS in the environment, None: without."""
    environment = {name: value for name, value in os.environ.items() if name != "CMAKE_ARGS"}
    for name in ("MAKEFLAGS", "MAKELEVEL"):
        environment.pop(name, None)
    if cmake_args is not None:
        environment["CMAKE_ARGS"] = cmake_args
    done = subprocess.run(
        ["make", "-n", "setup"], cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def rebuilds(checkout: Path, cmake_args: str | None) -> bool:
    """Whether llama.cpp would be installed anew, and not from what pip keeps of other builds."""
    for command in commands(checkout, cmake_args):
        if "llama-cpp-python==" in command and "--force-reinstall" in command.split():
            assert "--cache-dir /pips-cache/llama-medusa-" in command
            return True
    return False


def caches(checkout: Path, cmake_args: str | None) -> set[str]:
    """The folders that pip would keep builds in."""
    words = " ".join(commands(checkout, cmake_args)).split()
    return {after for word, after in pairwise(words) if word == "--cache-dir"}


@pytest.mark.parametrize("cmake_args", [None, ""])
def test_what_is_installed_is_not_installed_again(checkout: Path, cmake_args: str | None) -> None:
    assert not any("install" in command for command in commands(checkout, cmake_args))


def test_a_cuda_build_after_a_cpu_start_is_built(checkout: Path) -> None:
    assert rebuilds(checkout, CUDA)


def test_a_build_without_rpc_is_built_again(checkout: Path) -> None:
    built_with(checkout, "")
    assert rebuilds(checkout, None)


def test_a_cuda_build_stays_until_another_is_asked_for(checkout: Path) -> None:
    built_with(checkout, f"{RPC} {CUDA}")
    assert not rebuilds(checkout, None)
    assert not rebuilds(checkout, CUDA)
    assert rebuilds(checkout, "")
    assert rebuilds(checkout, "-DGGML_VULKAN=on")
    assert rebuilds(checkout, f"{CUDA} -DGGML_RPC=OFF")


def test_each_configuration_has_a_cache_of_its_own(checkout: Path) -> None:
    (cuda,), (vulkan,) = caches(checkout, CUDA), caches(checkout, "-DGGML_VULKAN=on")
    assert cuda != vulkan
    assert caches(checkout, f"{RPC} {CUDA}") == {cuda}


def test_nothing_is_cached_where_pip_keeps_nothing(checkout: Path) -> None:
    (checkout / ".venv" / "bin" / "pip").write_text("#!/bin/sh\nexit 1\n")
    (install,) = [c for c in commands(checkout, CUDA) if "llama-cpp-python==" in c]
    assert {"--no-cache-dir", "--force-reinstall"} <= set(install.split())


def test_new_pins_keep_the_kind_of_build(checkout: Path) -> None:
    built_with(checkout, f"{RPC} {CUDA}")
    (checkout / "requirements" / "serve.txt").touch()
    os.utime(checkout / ".venv" / ".installed", (0, 0))
    (install,) = [c for c in commands(checkout, None) if "requirements/serve.txt" in c]
    (folder,) = caches(checkout, None)
    assert folder in install.split()


def test_what_was_asked_for_is_looked_for_in_the_build(checkout: Path) -> None:
    assert any(c.endswith("-m medusa.llama.build") for c in commands(checkout, CUDA))
