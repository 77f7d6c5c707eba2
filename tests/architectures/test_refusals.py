"""Models that cannot be served are refused when they are opened, with the reason."""

from pathlib import Path

import pytest

from medusa.errors import ModelLoadError
from medusa.loading import open_model
from tests.architectures.models import REFUSED_MODELS
from tests.architectures.writer import write_model

REASONS = {
    "t5": "has an encoder",
    "llada": "diffusion",
}


@pytest.mark.parametrize("name", REFUSED_MODELS)
def test_opening_says_why_not_and_what_to_use(tmp_path: Path, name: str) -> None:
    path = tmp_path / "tiny.gguf"
    write_model(REFUSED_MODELS[name], path)
    with pytest.raises(ModelLoadError, match=f"{REASONS[name]}.*; use .*"):
        open_model(path)
