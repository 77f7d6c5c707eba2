"""What several test folders share: the default model, loaded once, and an F16 copy of it."""

import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings

from medusa.engine.client import Generated
from medusa.engine.events import Delta, Event, Failed, Finished
from medusa.engine.intake import Intake
from medusa.engine.requests import GenerationRequest
from medusa.llama.model import Model
from medusa.llama.quantising import FTYPE_F32, quantize
from medusa.llama.threads import default_threads
from medusa.text.chat_template import ChatTemplate
from models import DEFAULT_MODEL, resolve
from tests.app.exact_model import write_long_model

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

THREADS = min(2, default_threads())

_REAL_FIXTURES = {"model_path", "heads_path", "default_model"}
_SERVERS = {"running_server", "running_hub", "running_worker"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `real` what uses the default model's files or calls a function that starts a server.

    In both cases directly or through other fixtures. Files with a `slow` test come first, so that
    no process is left alone with one in the end.
    """
    for item in items:
        if isinstance(item, pytest.Function):
            called = set(item.function.__code__.co_names)
            called.update(*(function.__code__.co_names for function in _fixtures(item)))
            if _REAL_FIXTURES & set(item.fixturenames) or _SERVERS & called:
                item.add_marker(pytest.mark.real)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def _fixtures(item: pytest.Function) -> Iterator[Callable[..., object]]:
    """The functions of the fixtures that a test uses."""
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        yield from (inspect.unwrap(definition.func) for definition in definitions)


@pytest.fixture(scope="session")
def model_path() -> Path:
    return resolve(DEFAULT_MODEL).model


@pytest.fixture(scope="session")
def heads_path() -> Path:
    path = resolve(DEFAULT_MODEL).heads
    assert path is not None
    return path


@pytest.fixture(scope="session")
def endless_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny one whose answers may be so long that they take minutes."""
    path = tmp_path_factory.mktemp("endless") / "tiny.gguf"
    write_long_model(path, 400_000)
    return str(path)


@pytest.fixture(scope="session")
def model(model_path: Path) -> Iterator[Model]:
    model = Model(model_path)
    yield model
    model.close()


@pytest.fixture(scope="session")
def f32_model(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """The default model in f32, where rounding hardly depends on the batch."""
    path = tmp_path_factory.mktemp("f32") / "smollm2-f32.gguf"
    quantize(model_path, path, FTYPE_F32, threads=THREADS, allow_requantize=True)
    model = Model(path)
    yield model
    model.close()


@pytest.fixture(scope="session")
def template(model: Model) -> ChatTemplate:
    assert model.chat_template is not None
    return ChatTemplate(model.chat_template)


class Run:
    """Collects the events of one request."""

    def __init__(self, request_id: str) -> None:
        self.id = request_id
        self.events: list[Event] = []
        self.ended = threading.Event()

    def add(self, event: Event) -> None:
        assert event.request_id == self.id
        self.events.append(event)
        if isinstance(event, Finished | Failed):
            self.ended.set()

    @property
    def deltas(self) -> list[Delta]:
        return [event for event in self.events if isinstance(event, Delta)]

    @property
    def tokens(self) -> list[int]:
        return [token for delta in self.deltas for token in delta.tokens]

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def generated(self) -> Generated:
        """All its events put together."""
        generated = Generated()
        for event in self.events:
            generated.add(event)
        return generated

    @property
    def finished(self) -> Finished:
        last = self.events[-1]
        assert isinstance(last, Finished), last
        return last


def submit(engine: Intake, requests: Sequence[GenerationRequest]) -> list[Run]:
    """Let requests run, each under an id of its own even where they are the same object."""
    named = [replace(request, id=uuid4().hex) for request in requests]
    runs = {request.id: Run(request.id) for request in named}
    engine.submit(named, lambda event: runs[event.request_id].add(event))
    return list(runs.values())


def generate(engine: Intake, requests: Sequence[GenerationRequest]) -> list[Run]:
    """Run requests together and wait for all of them."""
    runs = submit(engine, requests)
    for run in runs:
        assert run.ended.wait(600), "the engine hangs"
    return runs
