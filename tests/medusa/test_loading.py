from pathlib import Path

import pytest

from medusa.engine.config import EngineConfig
from medusa.loading import open_model
from tests.app.tiny_model import write_tiny_model

CONFIG = EngineConfig(n_slots=1, n_ctx=256, n_threads=1, draft_nodes=0)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "the model has no chat template"),
        ("{% nonsense %}", "unknown tag 'nonsense'"),
        ("{{ 'Hi' }}", "leaves out what the user says"),
    ],
)
def test_a_model_without_a_usable_template_is_opened_without(
    tmp_path: Path, source: str | None, reason: str
) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, chat_template=source)
    loaded = open_model(path, config=CONFIG)
    assert loaded.template is None
    assert loaded.no_chat is not None
    assert reason in loaded.no_chat
    loaded.close()


def test_a_template_may_be_given_instead(tmp_path: Path) -> None:
    path, template = tmp_path / "tiny.gguf", tmp_path / "good.jinja"
    write_tiny_model(path, chat_template="{% nonsense %}")
    template.write_text("{{ messages[-1].content }}", "utf-8")
    loaded = open_model(path, config=CONFIG, chat_template=template)
    assert loaded.no_chat is None
    assert loaded.template is not None
    assert loaded.template.render([{"role": "user", "content": "Hi"}]) == "Hi"
    loaded.close()
