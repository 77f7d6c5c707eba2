import subprocess
from pathlib import Path

import pytest

from medusa.engine.config import EngineConfig
from medusa.errors import InvalidRequestError, ModelLoadError
from medusa.loading import open_model
from medusa.text.chat_template import ChatTemplate
from medusa.text.rendering import RenderingLimits, RenderingProcess
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


@pytest.fixture
def renderers(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that templates begin."""
    begun: list[subprocess.Popen[bytes]] = []

    class Noted(RenderingProcess):
        def __init__(self, source: str, limits: RenderingLimits | None) -> None:
            super().__init__(source, limits)
            begun.append(self._process)

    monkeypatch.setattr("medusa.text.chat_template.RenderingProcess", Noted)
    return begun


def test_a_model_that_cannot_be_served_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renderers: list[subprocess.Popen[bytes]]
) -> None:
    def fail(*_arguments: object) -> None:
        raise ModelLoadError("no context")

    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, chat_template="{{ messages[-1].content }}")
    monkeypatch.setattr("medusa.loading.Engine", fail)
    with pytest.raises(ModelLoadError, match="no context") as kept:
        open_model(path, config=CONFIG)
    (renderer,) = renderers
    assert renderer.poll() is not None
    assert kept.tb is not None


def test_a_template_that_cannot_be_used_leaves_no_process(
    renderers: list[subprocess.Popen[bytes]],
) -> None:
    with pytest.raises(InvalidRequestError, match="leaves out what the user says") as kept:
        ChatTemplate("{{ 'Hi' }}")
    (renderer,) = renderers
    assert renderer.poll() is not None
    assert kept.tb is not None
