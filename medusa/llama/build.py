"""Whether the installed llama.cpp has the backends that its build was asked for.

`python -m medusa.llama.build` tells, of CMAKE_ARGS: a build goes on where a toolkit was not found,
and an installation may come from a cache.
"""

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from medusa.llama import ggml

_BACKENDS = "blas", "cann", "cuda", "hip", "metal", "musa", "opencl", "rpc", "sycl", "vulkan"
_OPTION = re.compile(r"-DGGML_(\w+)(?::BOOL)?=(\w+)")
_TRUE = "1", "on", "yes", "true", "y"


def wanted(cmake_args: str) -> list[str]:
    """The backends that arguments for CMake switch on; of several words the last one counts."""
    said = {name.lower(): value.lower() in _TRUE for name, value in _OPTION.findall(cmake_args)}
    return [name for name in _BACKENDS if said.get(name)]


def lacking(backends: Iterable[str], folder: Path) -> list[str]:
    """Those of which a folder has no library."""
    there = {path.name.split(".")[0].removeprefix("lib") for path in folder.iterdir()}
    return [name for name in backends if f"ggml-{name}" not in there]


def main() -> None:
    """Ends the process with a message where a backend is lacking."""
    asked = os.environ.get("CMAKE_ARGS", "")
    missing = lacking(wanted(asked), ggml.folder())
    if missing == ["rpc"]:  # which `make` asks for without being told, and few need
        print("this llama.cpp was built without RPC: no workers", file=sys.stderr)
    elif missing:
        names = ", ".join(missing)
        sys.exit(
            f"llama.cpp was built without {names}, which CMAKE_ARGS={asked!r} asks for; is the "
            "toolkit installed? To build anew: make clean setup"
        )


if __name__ == "__main__":
    main()
