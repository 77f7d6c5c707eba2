"""From files to something that answers: model, heads, engine and chat template together."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from medusa.engine.config import EngineConfig
from medusa.engine.embedding_engine import EmbeddingEngine
from medusa.engine.engine import Engine
from medusa.engine.intake import Intake
from medusa.engine.pooling import Pooling
from medusa.engine.report import StepObserver
from medusa.errors import InvalidRequestError, ModelLoadError
from medusa.fitting import open_where_it_fits
from medusa.llama.grammar_tokenizer import grammar_tokenizer
from medusa.llama.model import Model
from medusa.llama.params import Placement
from medusa.llama.threads import default_threads
from medusa.sampling.grammars.compiler import GrammarCompiler
from medusa.speculation.heads.guessing import Heads
from medusa.speculation.heads.loading import load_heads
from medusa.speculation.tree import StaticShape
from medusa.text.chat_template import ChatTemplate
from medusa.text.rendering import RenderingLimits


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
    placement: Placement | None = None,
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
        placement: what of it is on which devices; None: as much as fits on all there are.
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
    engine_config = config or EngineConfig()

    def open_there(placement: Placement) -> LoadedModel:
        with ExitStack() as opened:
            model = Model(path, placement)
            opened.callback(model.close)
            if model.capabilities.is_embedding:
                if adapters:
                    raise ModelLoadError(f"{path} does not generate text; it takes no adapters")
                embedding = EmbeddingEngine(model, engine_config, observer)
                opened.pop_all()
                return _embedding_model(name or path.stem, model, embedding)
            model.load_adapters(adapters)
            n_threads = engine_config.n_threads or default_threads()
            loaded_heads = load_heads(heads, model, n_threads) if heads else None
            source = _template_source(model, chat_template, default_template)
            template, no_chat = _open_template(model, source, rendering)
            if template is not None:
                opened.callback(template.close)
            engine = Engine(model, loaded_heads, engine_config, observer)
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

    return open_where_it_fits(open_there, path, engine_config, placement, adapters)


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


def load_model(path: Path, placement: Placement | None = None) -> Model:
    """Load a GGUF.

    Args:
        path: the file.
        placement: as for `open_model`.

    Raises:
        ModelLoadError: it cannot be loaded.
    """
    return open_where_it_fits(partial(Model, path), path, EngineConfig(n_slots=1), placement)


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
