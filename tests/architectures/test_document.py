"""docs/models.md says what the models are seen to be."""

from pathlib import Path

import pytest

from medusa.llama import runtime
from tests.architectures.table import DOCUMENT, document


def test_the_table_of_models_is_current(tmp_path: Path) -> None:
    if not runtime.load().kernels.active:
        pytest.skip(f"models are exact with our kernels: {runtime.load().kernels.reason}")
    text = DOCUMENT.read_text("utf-8")
    assert document(text, tmp_path) == text, "`make docs` brings it up to date"
