"""What soak and fuzz write down."""

import datetime
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.report import cpu_name


def write_section(path: Path, name: str, figures: Mapping[str, object], image: str = "") -> None:
    """Put a table into a Markdown file, in place of the one of before.

    Args:
        path: the file; made if it is not there.
        name: of the section.
        figures: a row each.
        image: file name of a plot beside it.
    """
    module = "tests.fuzz" if "fuzz" in sys.argv[0] else "tests.soak"
    command = shlex.join(["python", "-m", module, *sys.argv[1:]])
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    rows = "\n".join(f"| {key} | {value} |" for key, value in figures.items())
    plot = f"\n\n![{name}]({image})" if image else ""
    body = (
        f"<!-- {name} -->\n`{command}` on {datetime.date.today()}, commit {commit}; "
        f"{cpu_name()}, {os.cpu_count()} cores.\n\n"
        f"| {name} | |\n|---|---:|\n{rows}{plot}\n<!-- end of {name} -->"
    )
    old = path.read_text("utf-8") if path.exists() else "# Reliability\n"
    section = re.compile(rf"<!-- {name} -->.*<!-- end of {name} -->", re.DOTALL)
    if section.search(old):
        text = section.sub(lambda _: body, old)
    else:
        text = f"{old.rstrip()}\n\n{body}\n"
    path.write_text(text, "utf-8")
