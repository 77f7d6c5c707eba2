"""What `make` would run, asked for without running it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CUDA = "-DGGML_CUDA=on"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout where everything was installed and llama.cpp built for the CPU."""
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    built_with(tmp_path, "")
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
    """Whether llama.cpp would be built anew, not taken from pip's cache."""
    wanted = {"--no-cache-dir", "--force-reinstall"}
    return any(
        "llama-cpp-python==" in command and wanted <= set(command.split())
        for command in commands(checkout, cmake_args)
    )


@pytest.mark.parametrize("cmake_args", [None, ""])
def test_what_is_installed_is_not_installed_again(checkout: Path, cmake_args: str | None) -> None:
    assert not any("install" in command for command in commands(checkout, cmake_args))


def test_a_cuda_build_after_a_cpu_start_is_built(checkout: Path) -> None:
    assert rebuilds(checkout, CUDA)


def test_a_cuda_build_stays_until_another_is_asked_for(checkout: Path) -> None:
    built_with(checkout, CUDA)
    assert not rebuilds(checkout, None)
    assert not rebuilds(checkout, CUDA)
    assert rebuilds(checkout, "")
    assert rebuilds(checkout, "-DGGML_VULKAN=on")


def test_the_first_cuda_build_does_not_take_a_cpu_build_from_pips_cache(checkout: Path) -> None:
    shutil.rmtree(checkout / ".venv")
    assert rebuilds(checkout, CUDA)
    assert not rebuilds(checkout, None)


def test_new_pins_keep_the_kind_of_build(checkout: Path) -> None:
    built_with(checkout, CUDA)
    (checkout / "requirements" / "serve.txt").touch()
    os.utime(checkout / ".venv" / ".installed", (0, 0))
    (install,) = [c for c in commands(checkout, None) if "requirements/serve.txt" in c]
    assert "--no-cache-dir" in install.split()
