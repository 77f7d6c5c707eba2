"""A build without a backend that was asked for is noticed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medusa.llama import ggml
from medusa.llama.build import lacking, main, wanted


@pytest.mark.parametrize(
    ("cmake_args", "backends"),
    [
        ("", []),
        ("-DGGML_NATIVE=off -DGGML_RPC=ON", ["rpc"]),
        ("-DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES=native", ["cuda"]),
        ("-DGGML_VULKAN:BOOL=TRUE -DGGML_BLAS=1 -DGGML_BLAS_VENDOR=OpenBLAS", ["blas", "vulkan"]),
        ("-DGGML_RPC=ON -DGGML_RPC=OFF", []),
    ],
)
def test_what_a_build_was_asked_for(cmake_args: str, backends: list[str]) -> None:
    assert wanted(cmake_args) == backends


def test_libraries_stand_for_backends(tmp_path: Path) -> None:
    for name in ("libggml-base.so", "libggml-cuda.so.0", "libggml-metal.dylib", "ggml-rpc.dll"):
        (tmp_path / name).touch()
    assert lacking(["cuda", "metal", "rpc"], tmp_path) == []
    assert lacking(["cuda", "vulkan", "hip"], tmp_path) == ["vulkan", "hip"]


def test_a_gpu_that_is_not_in_the_build_is_an_error() -> None:
    def check(cmake_args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "medusa.llama.build"]
        environment = {**os.environ, "CMAKE_ARGS": cmake_args}
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    assert check("-DGGML_NATIVE=ON").returncode == 0
    refused = check("-DGGML_CANN=ON")
    assert refused.returncode == 1
    assert refused.stderr.startswith("llama.cpp was built without cann")


def test_a_build_without_workers_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ggml, "folder", lambda: tmp_path)
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_RPC=ON")
    main()
    assert "without RPC" in capsys.readouterr().err
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_RPC=ON -DGGML_CUDA=ON")
    with pytest.raises(SystemExit, match="without cuda, rpc"):
        main()
