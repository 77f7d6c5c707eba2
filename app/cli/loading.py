"""The model that a command's settings ask for."""

import logging

from app.residency import Room
from app.settings import ModelSettings
from medusa.engine.config import EngineConfig
from medusa.engine.report import StepObserver
from medusa.fitting import needs_of
from medusa.llama import devices, free_memory, rpc
from medusa.llama.threads import default_threads
from medusa.loading import Language, LoadedModel, load_tree, open_language, open_model
from models import ModelFiles

log = logging.getLogger("app")


def open_files(
    files: ModelFiles,
    settings: ModelSettings,
    observer: StepObserver | None = None,
    *,
    name: str | None = None,
) -> LoadedModel:
    """Load everything and start the engine.

    Args:
        files: of the model.
        settings: how it is run.
        observer: called in the engine's thread after every step.
        name: what the model is called; None: as its files say.

    Raises:
        ModelLoadError: a file cannot be loaded, or the heads do not fit the model.
        WorkerUnavailableError: a worker does not answer.
    """
    rpc.connect(settings.workers)
    cores = default_threads()
    if settings.threads and settings.threads > cores:
        log.warning("%d threads share %d cores, and wait for one another", settings.threads, cores)
    return open_model(
        files.model,
        settings.heads_path(files),
        _config(settings),
        name=name or files.name,
        placement=settings.placement,
        adapters=[each.path for each in settings.adapters],
        chat_template=settings.chat_template,
        default_template=files.template,
        rendering=settings.rendering,
        grammar_work=settings.grammar_work,
        observer=observer,
    )


def open_texts(files: ModelFiles, settings: ModelSettings) -> Language:
    """What the model's texts need, without its weights.

    Raises:
        ModelLoadError: the file cannot be opened.
    """
    return open_language(
        files.model,
        chat_template=settings.chat_template,
        default_template=files.template,
        rendering=settings.rendering,
        grammar_work=settings.grammar_work,
    )


def measure(files: ModelFiles, settings: ModelSettings) -> Room:
    """What a model would take in memory.

    Raises:
        ModelLoadError: it cannot be served.
        WorkerUnavailableError: a worker does not answer.
    """
    rpc.connect(settings.workers)
    adapters = [each.path for each in settings.adapters]
    needs = needs_of(files.model, _config(settings), settings.placement, adapters).footprint
    return Room(needs.on_host + needs.mapped, needs.on_gpu)


def free_room() -> Room | None:
    """The memory that there is; None: unknown."""
    host = free_memory.of_host()
    gpus = devices.free_bytes(devices.that_hold_layers())
    return None if host is None else Room(host, gpus or 0)


def _config(settings: ModelSettings) -> EngineConfig:
    return settings.engine_config(load_tree(settings.tree) if settings.tree else None)
