"""Settings of the commands that answer requests: serve, generate."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from app.settings.base import ComputeSettings, ModelName, TextFile
from app.settings.door import DoorSettings
from app.settings.option import Opt
from medusa.engine.config import EngineConfig
from medusa.engine.pooling import Pooling
from medusa.llama.params import MAX_SEQUENCES, CacheType
from medusa.sampling.params import SamplingParams
from models import DEFAULT_MODEL, ModelFiles

if TYPE_CHECKING:
    from medusa.speculation.tree import StaticShape


def _model_and_prompt(words: list[str]) -> list[str]:
    if not 1 <= len(words) <= 2:
        raise ValueError("give a prompt, or a model and a prompt; quote the prompt")
    return words


class ModelSettings(ComputeSettings):
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
        )


class ServerSettings(DoorSettings, ModelSettings):
    """What is served, and how."""

    model: ModelName = DEFAULT_MODEL
    parallel: Annotated[
        int,
        Opt(
            help="Slots: requests that run at the same time.",
            ge=1,
            le=MAX_SEQUENCES,
            short="-np",
            variable=True,
        ),
    ] = EngineConfig.n_slots
    max_queue: Annotated[
        int,
        Opt(
            help="Requests that may wait for a slot; more are answered 503 with Retry-After.",
            ge=0,
            variable=True,
        ),
    ] = EngineConfig.max_queue
    max_stall: Annotated[
        float,
        Opt(
            help="Longest time in ms that a new prompt may hold up running requests in a step.",
            ge=1,
            metavar="MS",
            variable=True,
        ),
    ] = 1000 * EngineConfig.max_stall
    grace: Annotated[
        float,
        Opt(
            help="Longest time in seconds that running requests may take to end once the server is "
            "told to stop (SIGTERM, Ctrl-C); what is unfinished then gets an error.",
            ge=0,
            metavar="SECONDS",
            variable=True,
        ),
    ] = 25.0
    supervise: Annotated[
        bool,
        Opt(
            help="Start the server again when a fault in native code has ended it. Without, one "
            "process serves and a crash ends it.",
            variable=True,
        ),
    ] = True
    pooling: Annotated[
        Pooling | None,
        Opt(
            help="How texts become embeddings: mean or last (token); of embedding models also cls.",
            metavar="mean|last|cls",
            unset="as the model says, else mean",
            variable=True,
        ),
    ] = EngineConfig.pooling
    model_name: Annotated[
        str | None,
        Opt(
            help="Name of the model in the API; `default` always works.",
            unset="the catalogue's or the file's",
            variable=True,
        ),
    ] = None

    def engine_config(self, tree_shape: "StaticShape | None" = None) -> EngineConfig:
        """How the engine is set up."""
        return dataclasses.replace(
            super().engine_config(tree_shape),
            n_slots=self.parallel,
            max_queue=self.max_queue,
            max_stall=self.max_stall / 1000,
            pooling=self.pooling,
        )


class GenerateSettings(ModelSettings):
    """One prompt, and how it is answered."""

    words: Annotated[
        list[str],
        AfterValidator(_model_and_prompt),
        Opt(help="The prompt, a model before it.", metavar="[MODEL] PROMPT", positional=True),
    ]
    system: Annotated[
        str | None, Opt(help="System message to put before the prompt.", short="-s")
    ] = None
    raw: Annotated[bool, Opt(help="Continue the prompt as it is, without a chat template.")] = False
    max_tokens: Annotated[int, Opt(help="Most tokens to generate.", ge=1, short="-n")] = 256
    temperature: Annotated[float, Opt(help="0 is greedy decoding.", ge=0, le=2)] = 0.0
    top_p: Annotated[
        float,
        Opt(help="Draw from the likeliest tokens that have this chance together.", ge=0, le=1),
    ] = SamplingParams.top_p
    seed: Annotated[int | None, Opt(help="For the same text again.", ge=0)] = SamplingParams.seed

    @property
    def model(self) -> str:
        """Catalogue name or path."""
        return self.words[0] if len(self.words) == 2 else DEFAULT_MODEL

    @property
    def prompt(self) -> str:
        """What is answered."""
        return self.words[-1]

    @property
    def sampling(self) -> SamplingParams:
        """How tokens are drawn."""
        return SamplingParams(temperature=self.temperature, top_p=self.top_p, seed=self.seed)
