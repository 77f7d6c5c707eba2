"""Tiny models, written once for each run of the tests."""

from collections.abc import Callable, Iterator

import pytest

from medusa.llama.model import Model
from tests.architectures.models import MODELS
from tests.architectures.writer import write_model

TinyModels = Callable[[str], Model]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyModels]:
    """A model by its name in `MODELS`."""
    folder = tmp_path_factory.mktemp("tiny")
    loaded: dict[str, Model] = {}

    def load(name: str) -> Model:
        if name not in loaded:
            path = folder / f"{name}.gguf"
            write_model(MODELS[name], path)
            loaded[name] = Model(path)
        return loaded[name]

    yield load
    for model in loaded.values():
        model.close()
