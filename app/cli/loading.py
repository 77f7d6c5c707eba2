"""The model that a command's settings ask for."""

import logging

from app.settings import ModelSettings
from medusa.engine.report import StepObserver
from medusa.llama.threads import default_threads
from medusa.loading import LoadedModel, load_tree, open_model
from models import resolve

log = logging.getLogger("app")


def open_named(
    model: str,
    settings: ModelSettings,
    observer: StepObserver | None = None,
    *,
    name: str | None = None,
) -> LoadedModel:
    """Load everything and start the engine.

    Args:
        model: catalogue name or path.
        settings: how it is run.
        observer: called in the engine's thread after every step.
        name: what the model is called; None: as in the catalogue, or as its file.

    Raises:
        ModelNotFoundError: the name or path leads nowhere.
        ModelLoadError: a file cannot be loaded, or the heads do not fit the model.
    """
    files = resolve(model)
    cores = default_threads()
    if settings.threads and settings.threads > cores:
        log.warning("%d threads share %d cores, and wait for one another", settings.threads, cores)
    return open_model(
        files.model,
        settings.heads_path(files),
        settings.engine_config(load_tree(settings.tree) if settings.tree else None),
        name=name or files.name,
        gpu_layers=settings.gpu_layers,
        chat_template=settings.chat_template,
        observer=observer,
    )
