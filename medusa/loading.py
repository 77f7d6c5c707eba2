"""From files to something that answers: model, heads, engine and chat template together."""

import json
from dataclasses import dataclass
from pathlib import Path

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.report import StepObserver
from medusa.errors import ModelLoadError
from medusa.llama.grammar_tokenizer import grammar_tokenizer
from medusa.llama.model import Model
from medusa.llama.params import ALL_LAYERS
from medusa.llama.runtime import gpu_offload_available
from medusa.llama.threads import default_threads
from medusa.sampling.grammars.compiler import GrammarCompiler
from medusa.speculation.heads.guessing import Heads
from medusa.speculation.heads.loading import load_heads
from medusa.speculation.tree import StaticShape
from medusa.text.chat_template import ChatTemplate


@dataclass(frozen=True)
class LoadedModel:
    """Everything that is needed to answer requests."""

    name: str
    model: Model
    heads: Heads | None
    engine: Engine
    template: ChatTemplate | None
    grammars: GrammarCompiler

    def close(self) -> None:
        """Stop the engine and free the model."""
        self.engine.close()
        self.model.close()


def open_model(
    path: Path,
    heads: Path | None = None,
    config: EngineConfig | None = None,
    *,
    name: str | None = None,
    gpu_layers: int | None = None,
    chat_template: Path | None = None,
    observer: StepObserver | None = None,
) -> LoadedModel:
    """Load everything and start the engine.

    Args:
        path: the model's GGUF.
        heads: Medusa heads for it.
        config: of the engine.
        name: what the model is called; None: as its file.
        gpu_layers: as for `load_model`.
        chat_template: Jinja file to use instead of the model's own.
        observer: called in the engine's thread after every step.

    Raises:
        ModelLoadError: a file cannot be loaded, or the heads do not fit the model.
        InvalidRequestError: the chat template is none.
        OSError: the chat template's file cannot be read.
    """
    config = config or EngineConfig()
    model = load_model(path, gpu_layers)
    try:
        n_threads = config.n_threads or default_threads()
        loaded_heads = load_heads(heads, model, n_threads) if heads else None
        source = chat_template.read_text("utf-8") if chat_template else model.chat_template
        template = load_template(model, source) if source else None
        engine = Engine(model, loaded_heads, config, observer)
    except Exception:
        model.close()
        raise
    grammars = GrammarCompiler(lambda: grammar_tokenizer(model))
    return LoadedModel(name or path.stem, model, loaded_heads, engine, template, grammars)


def load_model(path: Path, gpu_layers: int | None = None) -> Model:
    """Load a GGUF.

    Args:
        path: the file.
        gpu_layers: -1 all, 0 none; None: all where a GPU is found, else none.

    Raises:
        ModelLoadError: it cannot be loaded.
    """
    if gpu_layers is None:
        gpu_layers = ALL_LAYERS if gpu_offload_available() else 0
    return Model(path, gpu_layers=gpu_layers)


def load_template(model: Model, source: str) -> ChatTemplate:
    """A chat template that knows the model's special tokens.

    Raises:
        InvalidRequestError: the source is no valid template.
    """

    def text(token: int) -> str:
        return model.pieces[token].decode("utf-8", "replace") if token >= 0 else ""

    return ChatTemplate(
        source, bos=text(model.bos_token), eos=text(model.eos_token), bos_is_added=model.adds_bos
    )


def load_tree(path: Path) -> StaticShape:
    """The tree in a JSON file of Medusa choices.

    Raises:
        ModelLoadError: the file is not a list of choices.
    """
    try:
        choices = json.loads(path.read_text("utf-8"))
        return StaticShape(tuple(tuple(map(int, choice)) for choice in choices))
    except (OSError, ValueError, TypeError) as error:
        raise ModelLoadError(f"{path} is not a JSON list of Medusa choices: {error}") from error
