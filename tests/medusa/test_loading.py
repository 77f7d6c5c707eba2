import threading
from pathlib import Path

import pytest

from medusa.errors import InvalidRequestError
from medusa.loading import open_model
from tests.architectures.models import MODELS
from tests.architectures.writer import write_model


def engines() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "medusa-engine"]


def test_nothing_runs_on_when_a_chat_template_is_refused(tmp_path: Path) -> None:
    path, template = tmp_path / "tiny.gguf", tmp_path / "bad.jinja"
    write_model(MODELS["llama"], path)
    template.write_text("{% nonsense %}", "utf-8")
    before = engines()
    with pytest.raises(InvalidRequestError):
        open_model(path, chat_template=template)
    assert engines() == before
