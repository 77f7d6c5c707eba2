"""From files to something that answers: model, heads, engine and chat template together."""

import json
import logging
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from medusa.engine.config import EngineConfig
from medusa.engine.embedding_engine import EmbeddingEngine, longest_text
from medusa.engine.engine import Engine
from medusa.engine.intake import Intake
from medusa.engine.memory import MemoryRules
from medusa.engine.pooling import Pooling
from medusa.engine.report import StepObserver
from medusa.errors import InvalidRequestError, ModelLoadError
from medusa.llama import footprint, free_memory
from medusa.llama.adapters import adapter_bytes
from medusa.llama.footprint import Footprint
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
from medusa.text.rendering import RenderingLimits

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Language:
    """What reads and writes a model's texts; its weights may be elsewhere."""

    model: Model
    template: ChatTemplate | None
    grammars: GrammarCompiler
    no_chat: str | None = None
    """Why there is no template."""

    def close(self) -> None:
        """Free it."""
        self.grammars.close()
        if self.template is not None:
            self.template.close()
        self.model.close()


@dataclass(frozen=True, kw_only=True)
class LoadedModel(Language):
    """Everything that is needed to answer requests."""

    name: str
    heads: Heads | None
    engine: Intake

    def close(self) -> None:
        """Stop the engine and free the model."""
        self.engine.close()
        super().close()


def open_model(
    path: Path,
    heads: Path | None = None,
    config: EngineConfig | None = None,
    *,
    name: str | None = None,
    gpu_layers: int | None = None,
    adapters: Sequence[Path] = (),
    chat_template: Path | None = None,
    default_template: str | None = None,
    rendering: RenderingLimits | None = None,
    grammar_work: float = 1.0,
    observer: StepObserver | None = None,
) -> LoadedModel:
    """Load everything and start the engine.

    Args:
        path: the model's GGUF.
        heads: Medusa heads for it.
        config: of the engine.
        name: what the model is called; None: as its file.
        gpu_layers: as for `load_model`.
        adapters: LoRA adapters for it, which requests name by their places here.
        chat_template: Jinja file to use instead of the model's own.
        default_template: Jinja source for a model that has none.
        rendering: what the chat template may take.
        grammar_work: see GrammarCompiler.
        observer: called in the engine's thread after every step.

    Raises:
        ModelLoadError: a file cannot be loaded, the model cannot be served or has no room in
            memory, or the heads do not fit it.
        OSError: the chat template's file cannot be read.
    """
    config = config or EngineConfig()
    check_room(path, config, gpu_layers, adapters)
    with ExitStack() as opened:
        model = load_model(path, gpu_layers)
        opened.callback(model.close)
        if model.capabilities.is_embedding:
            if adapters:
                raise ModelLoadError(f"{path} does not generate text; it takes no adapters")
            embedding = EmbeddingEngine(model, config, observer)
            opened.pop_all()
            return _embedding_model(name or path.stem, model, embedding)
        model.load_adapters(adapters)
        n_threads = config.n_threads or default_threads()
        loaded_heads = load_heads(heads, model, n_threads) if heads else None
        source = _template_source(model, chat_template, default_template)
        template, no_chat = _open_template(model, source, rendering)
        if template is not None:
            opened.callback(template.close)
        engine = Engine(model, loaded_heads, config, observer)
        opened.pop_all()
    return LoadedModel(
        name=name or path.stem,
        model=model,
        heads=loaded_heads,
        engine=engine,
        template=template,
        grammars=GrammarCompiler(lambda: grammar_tokenizer(model), grammar_work),
        no_chat=no_chat,
    )


def open_language(
    path: Path,
    *,
    chat_template: Path | None = None,
    default_template: str | None = None,
    rendering: RenderingLimits | None = None,
    grammar_work: float = 1.0,
) -> Language:
    """What a model's texts need, without its weights.

    Arguments and errors are those of `open_model`.
    """
    model = Model(path, weights=False)
    with ExitStack() as opened:
        opened.callback(model.close)
        template, no_chat = None, None
        if not model.capabilities.is_embedding:
            source = _template_source(model, chat_template, default_template)
            template, no_chat = _open_template(model, source, rendering)
        opened.pop_all()
    grammars = GrammarCompiler(lambda: grammar_tokenizer(model), grammar_work)
    return Language(model=model, template=template, grammars=grammars, no_chat=no_chat)


def _embedding_model(name: str, model: Model, engine: EmbeddingEngine) -> LoadedModel:
    grammars = GrammarCompiler(lambda: grammar_tokenizer(model))
    what = "ranks texts" if engine.pooling is Pooling.RANK else "makes embeddings"
    no_chat = f"the model {what}; it cannot generate text"
    return LoadedModel(
        name=name,
        model=model,
        heads=None,
        engine=engine,
        template=None,
        grammars=grammars,
        no_chat=no_chat,
    )


def load_model(path: Path, gpu_layers: int | None = None) -> Model:
    """Load a GGUF.

    Args:
        path: the file.
        gpu_layers: -1 all, 0 none; None: all where a GPU is found, else none.

    Raises:
        ModelLoadError: it cannot be loaded.
    """
    return Model(path, gpu_layers=_layers(gpu_layers))


def check_room(
    path: Path,
    config: EngineConfig,
    gpu_layers: int | None = None,
    adapters: Iterable[Path] = (),
) -> None:
    """Ask whether a model can be served in the memory there is, before its weights are read.

    Args:
        path: the model's GGUF.
        config: of the engine that is to run it.
        gpu_layers: as for `load_model`.
        adapters: for it.

    Raises:
        ModelLoadError: it cannot, for that or another reason.
    """
    needs = footprint_of(path, config, gpu_layers, adapters)
    free = free_memory.of_host()
    refusal = needs.refusal(free, free_memory.of_gpus())
    if refusal is not None:
        raise ModelLoadError(f"there is no room for {path}: {refusal}")
    warning = needs.warning(free)
    if warning is not None:
        log.warning("%s: %s", path, warning)


def footprint_of(
    path: Path,
    config: EngineConfig,
    gpu_layers: int | None = None,
    adapters: Iterable[Path] = (),
) -> Footprint:
    """What a model would take in memory. Arguments and errors are those of `check_room`."""
    preview = Model(path, gpu_layers=_layers(gpu_layers), weights=False)
    try:
        if preview.capabilities.is_embedding:
            longest = longest_text(preview, config)
            return footprint.of_embedding_model(preview, longest, config.n_slots)
        decided = config.decided(preview.n_ctx_train, preview.capabilities)
        rules = MemoryRules.of(preview.capabilities, decided)
        needs = footprint.of_model(preview, rules.context_params(decided))
        return replace(needs, adapters=sum(map(adapter_bytes, adapters)))
    finally:
        preview.close()


def _layers(gpu_layers: int | None) -> int:
    if gpu_layers is not None:
        return gpu_layers
    return ALL_LAYERS if gpu_offload_available() else 0


def load_template(
    model: Model, source: str, rendering: RenderingLimits | None = None
) -> ChatTemplate:
    """A chat template that knows the model's special tokens.

    Raises:
        InvalidRequestError: the source is no template that can be used.
    """

    def text(token: int) -> str:
        return model.pieces[token].decode("utf-8", "replace") if token >= 0 else ""

    return ChatTemplate(
        source,
        bos=text(model.bos_token),
        eos=text(model.eos_token),
        control=model.control_spellings,
        limits=rendering,
    )


def _template_source(
    model: Model, chat_template: Path | None, default_template: str | None
) -> str | None:
    """The file that was asked for, the model's own template, or that of its catalogue."""
    if chat_template is not None:
        return chat_template.read_text("utf-8")
    return model.chat_template or default_template


def _open_template(
    model: Model, source: str | None, rendering: RenderingLimits | None
) -> tuple[ChatTemplate | None, str | None]:
    """A chat template, or why there is none; texts can be continued without."""
    if not source:
        return None, "the model has no chat template"
    try:
        return load_template(model, source, rendering), None
    except InvalidRequestError as error:
        return None, str(error)


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
