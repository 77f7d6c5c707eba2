"""What is wrong around the server ends in one line and exit code 1, and is not tried again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.servers import free_port
from tests.app.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_tiny_model(path)
    return path


def serve(*arguments: str, stdout: str = os.devnull, **environment: str) -> tuple[int, str]:
    """Exit code and what it says of it."""
    command = [sys.executable, "-m", "app", "serve", "--port", str(free_port()), *arguments]
    with open(stdout, "w") as output:
        result = subprocess.run(
            command,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "200", **environment},
        )
    return result.returncode, result.stderr


def assert_one_line(result: tuple[int, str], message: str) -> None:
    code, text = result
    assert code == 1, text
    assert message in text
    assert text.startswith("error: ")
    assert text.count("\n") == 1, text


def test_a_full_disk_behind_the_output(tiny: Path) -> None:
    assert_one_line(serve(str(tiny), stdout="/dev/full"), "No space left on device")


def test_a_broken_cache(tiny: Path, tmp_path: Path) -> None:
    missing = serve("vicuna-7b-v1.3", LLAMA_MEDUSA_CACHE="/dev/null")
    assert_one_line(missing, "is not on this machine yet; run: llama-medusa convert vicuna-7b-v1.3")
    folder = tmp_path / "vicuna-7b-v1.3"
    folder.mkdir()
    (folder / "vicuna-7b-v1.3.gguf").write_bytes(tiny.read_bytes()[:100_000])
    damaged = serve("vicuna-7b-v1.3", LLAMA_MEDUSA_CACHE=str(tmp_path))
    assert_one_line(damaged, "was it downloaded completely?")


def test_a_model_that_cannot_be_read(tmp_path: Path) -> None:
    empty = tmp_path / "empty.gguf"
    empty.touch()
    assert_one_line(serve(str(empty)), "empty.gguf is empty")


def test_a_home_that_is_not_there_is_no_hindrance(tiny: Path) -> None:
    environment = {"HOME": "/proc/nohome", "XDG_CACHE_HOME": "/proc/nohome/cache"}
    result = serve(str(tiny), "--heads", "/nowhere.gguf", **environment)
    assert_one_line(result, "heads file not found: /nowhere.gguf")
