"""The model a server serves: weights, heads, engine and chat template together."""

import json
from dataclasses import dataclass
from pathlib import Path

from app.options import ModelOptions
from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.report import StepObserver
from medusa.errors import ModelLoadError
from medusa.llama.model import Model
from medusa.llama.runtime import gpu_offload_available
from medusa.llama.threads import default_threads
from medusa.speculation.heads.guessing import Heads
from medusa.speculation.heads.loading import load_heads
from medusa.speculation.tree import StaticShape
from medusa.text.chat_template import ChatTemplate
from models import ModelFiles, resolve

ALL_LAYERS = -1


@dataclass(frozen=True)
class ServedModel:
    """Everything that is needed to answer requests."""

    name: str
    model: Model
    heads: Heads | None
    engine: Engine
    template: ChatTemplate | None

    def close(self) -> None:
        """Stop the engine and free the model."""
        self.engine.close()
        self.model.close()


def open_served(options: ModelOptions, observer: StepObserver | None = None) -> ServedModel:
    """Load everything and start the engine.

    Raises:
        ModelNotFoundError: the name or path leads nowhere.
        ModelLoadError: a file cannot be loaded, or the heads do not fit the model.
    """
    files = resolve(options.model)
    model = load_model(files.model, options.gpu_layers)
    heads_path = choose_heads(options.heads, files)
    n_threads = options.threads or default_threads()
    heads = load_heads(heads_path, model, n_threads) if heads_path else None
    config = EngineConfig(
        n_slots=options.parallel,
        n_ctx=options.ctx_size or default_context(model.n_ctx_train, options.parallel),
        n_threads=n_threads,
        max_queue=options.max_queue,
        draft_nodes=options.draft_nodes,
        lookup=options.lookup,
        tree_shape=load_tree(options.tree),
        max_stall=options.max_stall_ms / 1000,
        cache_type=options.cache_type,
    )
    template_source = (
        options.chat_template.read_text("utf-8") if options.chat_template else model.chat_template
    )
    template = load_template(model, template_source) if template_source else None
    return ServedModel(files.name, model, heads, Engine(model, heads, config, observer), template)


def load_model(path: Path, gpu_layers: int | None) -> Model:
    """Load a GGUF; gpu_layers None means all where a GPU is found, else none."""
    if gpu_layers is None:
        gpu_layers = ALL_LAYERS if gpu_offload_available() else 0
    return Model(path, gpu_layers=gpu_layers)


def choose_heads(option: str, files: ModelFiles) -> Path | None:
    """The heads file that "auto", "none" or a path stands for."""
    if option == "none":
        return None
    return files.heads if option == "auto" else Path(option).expanduser()


def load_tree(path: Path | None) -> StaticShape | None:
    """The tree in a JSON file of Medusa choices; without a file none is fixed.

    Raises:
        ModelLoadError: the file is not a list of choices.
    """
    if path is None:
        return None
    try:
        return StaticShape(
            tuple(tuple(map(int, choice)) for choice in json.loads(path.read_text()))
        )
    except (OSError, ValueError, TypeError) as error:
        raise ModelLoadError(f"{path} is not a JSON list of Medusa choices: {error}") from error


def load_template(model: Model, source: str) -> ChatTemplate:
    """A chat template that knows the model's special tokens."""

    def text(token: int) -> str:
        return model.pieces[token].decode("utf-8", "replace") if token >= 0 else ""

    return ChatTemplate(
        source, bos=text(model.bos_token), eos=text(model.eos_token), bos_is_added=model.adds_bos
    )


def default_context(n_ctx_train: int, n_slots: int) -> int:
    """Size of the KV cache in tokens: 2048 for each slot, at least one whole trained context."""
    return max(2048 * n_slots, min(n_ctx_train, 8192) + 256)
