"""Writing results for machines, and what is said of the machine they were measured on."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path


def write_json(path: Path | None, results: Mapping[str, object]) -> None:
    """Write results with a description of the machine; nothing when no path was given."""
    if path is not None:
        machine = {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.system(),
        }
        path.write_text(json.dumps({"machine": machine, **results}, indent=2) + "\n")


def cpu_name() -> str:
    """Model name of the CPU, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
