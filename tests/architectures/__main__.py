"""`python -m tests.architectures` brings docs/models.md up to date."""

import tempfile
from pathlib import Path

from tests.architectures.table import DOCUMENT, document

with tempfile.TemporaryDirectory() as folder:
    DOCUMENT.write_text(document(DOCUMENT.read_text("utf-8"), Path(folder)), "utf-8")
