"""Settings of a model, however it is used."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from app.settings.adapters import NamedAdapter, parse_adapter
from app.settings.base import HubSettings, TextFile
from app.settings.compute import ComputeSettings
from app.settings.option import Opt
from medusa.engine.config import EngineConfig
from medusa.llama.params import CacheType
from medusa.text.rendering import RenderingLimits
from models import ModelFiles

if TYPE_CHECKING:
    from medusa.speculation.tree import StaticShape


def _adapters(texts: list[str]) -> list[str]:
    names = [parse_adapter(text).name for text in texts]
    if len(set(names)) < len(names):
        raise ValueError("two adapters have the same name; give them others: NAME=FILE")
    return texts


class ModelSettings(ComputeSettings, HubSettings):
    """How a model is run."""

    ctx_size: Annotated[
        int | None,
        Opt(
            help="Size of the KV cache in tokens, shared by all slots. One request may use as much "
            "of it as the model was trained for.",
            ge=256,
            short="-c",
            unset="2048 for each slot",
            variable=True,
        ),
    ] = EngineConfig.n_ctx
    cache_type: Annotated[
        CacheType, Opt(help="Number format of the KV cache: f32, f16 or q8_0.", variable=True)
    ] = EngineConfig.cache_type
    swa_full: Annotated[
        bool,
        Opt(
            help="Models with sliding windows: keep all cells of these layers too. Off: less "
            "memory for long contexts, but no trees of guesses, and fewer prefixes are reused.",
            variable=True,
        ),
    ] = EngineConfig.swa_full
    heads: Annotated[
        str,
        Opt(
            help="Medusa heads: auto, none or a heads file; auto: those that belong to the model, "
            "if there are any.",
            metavar="auto|none|PATH",
            variable=True,
        ),
    ] = "auto"
    draft_nodes: Annotated[
        int,
        Opt(
            help="Most guessed tokens verified in a step, shared by the running requests. How many "
            "are worth it is measured. 0: plain decoding.",
            ge=0,
            le=64,
            variable=True,
        ),
    ] = EngineConfig.draft_nodes
    lookup: Annotated[
        bool,
        Opt(
            help="Also guess what followed the newest tokens earlier in the prompt or the answer.",
            variable=True,
        ),
    ] = EngineConfig.lookup
    tree: Annotated[
        TextFile | None,
        Opt(
            help="JSON list of Medusa choices such as [[0],[0,0],[1]]: a fixed candidate tree of "
            "the heads' guesses, without lookup.",
            unset="grown by what guesses are worth",
            variable=True,
        ),
    ] = None
    chat_template: Annotated[
        TextFile | None,
        Opt(
            help="Jinja file to use instead of the model's own chat template.",
            unset="the model's own",
            variable=True,
        ),
    ] = None
    template_seconds: Annotated[
        int,
        Opt(
            help="Processor time in seconds that the template may take for a conversation.",
            ge=1,
            variable=True,
        ),
    ] = RenderingLimits.seconds
    template_memory: Annotated[
        int,
        Opt(
            help="MB of memory that it may take.",
            ge=128,
            metavar="MB",
            variable=True,
        ),
    ] = RenderingLimits.memory >> 20
    grammar_work: Annotated[
        float,
        Opt(
            help="Work that a grammar or schema may cost, as a multiple of the usual: 20 ms at "
            "first, 10 ms in a step.",
            ge=0.001,
            variable=True,
        ),
    ] = 1.0

    @property
    def rendering(self) -> RenderingLimits:
        """What the chat template may take."""
        return RenderingLimits(self.template_seconds, self.template_memory << 20)

    lora: Annotated[
        list[str],
        AfterValidator(_adapters),
        Opt(
            help="GGUF of a LoRA adapter, applied with a scale of 1 or the given one unless a "
            "request says otherwise; its name is a model of its own. Again for each further one.",
            metavar="[NAME=]FILE[:SCALE]",
            unset="none; the name is the file's",
            variable=True,
        ),
    ] = []

    @property
    def adapters(self) -> tuple[NamedAdapter, ...]:
        """The LoRA adapters, in their order."""
        return tuple(map(parse_adapter, self.lora))

    def heads_path(self, files: ModelFiles) -> Path | None:
        """The heads file that was chosen for a model, if any."""
        match self.heads:
            case "auto":
                return files.heads
            case "none":
                return None
        return Path(self.heads).expanduser()

    def engine_config(self, tree_shape: "StaticShape | None" = None) -> EngineConfig:
        """How the engine is set up: for one request at a time."""
        return EngineConfig(
            n_slots=1,
            n_ctx=self.ctx_size,
            n_threads=self.threads,
            draft_nodes=self.draft_nodes,
            lookup=self.lookup,
            tree_shape=tree_shape,
            cache_type=self.cache_type,
            swa_full=self.swa_full,
            prompt_cache_ram=0,
        )
