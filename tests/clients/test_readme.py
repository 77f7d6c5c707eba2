"""The README's examples of clients are programs that run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:8000/v1"


def examples() -> list[str]:
    """The first one defines what the others use."""
    text = README.read_text("utf-8").partition("## Structured output and tools")[2]
    section = text.partition("\n## ")[0]
    first, *others = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return [first, *(f"{first}\n{other}" for other in others)]


@pytest.mark.parametrize("example", examples(), ids=["openai", "instructor", "agent", "langchain"])
def test_examples_print_what_they_promise(url: str, example: str) -> None:
    assert ADDRESS in example
    done = subprocess.run(
        [sys.executable, "-c", example.replace(ADDRESS, url)],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    wanted = example.count("print(")
    assert len(lines) == wanted
    for line in lines[:2]:
        assert re.fullmatch(r"city='.*' animals=\d+|city=\".*\" animals=\d+", line)
    for line in lines[2:]:
        assert "'name': 'open_on'" in line
