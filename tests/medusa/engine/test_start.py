"""An engine that cannot start leaves nothing behind."""

from pathlib import Path

import pytest

from medusa.engine import engine as module
from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.llama.context import Context
from medusa.llama.model import Model
from tests.app.tiny_model import write_tiny_model


@pytest.mark.parametrize("step", ["observe", "timed_decodes", "make_labels", "StepRunner"])
def test_an_engine_that_fails_to_start_frees_its_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    made: list[Context] = []

    class Noted(Context):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            made.append(self)

    def fail(*_arguments: object, **_named: object) -> None:
        raise MemoryError(step)

    write_tiny_model(tmp_path / "tiny.gguf")
    model = Model(tmp_path / "tiny.gguf")
    monkeypatch.setattr(module, "Context", Noted)
    monkeypatch.setattr(module, step, fail)
    with pytest.raises(MemoryError, match=step):
        Engine(model, config=EngineConfig(n_slots=2, n_ctx=512, n_threads=1))
    (context,) = made
    assert not context.handle
    model.close()
