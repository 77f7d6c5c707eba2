"""Running the programs of this folder."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def printed(module: str, *arguments: object) -> tuple[Any, str]:
    """The JSON that a program prints, and what it says besides."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def computed(model: Path, heads: Path | None, where: str, layers: str = "auto") -> Any:
    """What `compute` says of these workers, or of "gpu"."""
    return printed("tests.devices.compute", model, heads or "none", where, layers)[0]
