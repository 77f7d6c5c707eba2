"""Settings of the commands that answer requests: serve, generate."""

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from app.settings.base import parse_size
from app.settings.door import DoorSettings
from app.settings.model import ModelSettings
from app.settings.option import Opt
from app.settings.sampling import SamplingSettings
from app.settings.served import ServedSettings
from medusa.engine.config import EngineConfig
from medusa.engine.pooling import Pooling
from medusa.llama.params import MAX_SEQUENCES
from medusa.sampling.params import SamplingParams
from models import DEFAULT_MODEL

if TYPE_CHECKING:
    from medusa.speculation.tree import StaticShape


def _model_and_prompt(words: list[str]) -> list[str]:
    if not 1 <= len(words) <= 2:
        raise ValueError("give a prompt, or a model and a prompt; quote the prompt")
    return words


class LogFormat(StrEnum):
    """How logs are written."""

    TEXT = "text"
    JSON = "json"


class ServerSettings(SamplingSettings, ServedSettings, DoorSettings):
    """How models are served, and which."""

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
            help="Requests of each key that may wait for a slot; more are answered 503 with "
            "Retry-After.",
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
    log_format: Annotated[
        LogFormat,
        Opt(
            help="Logs as text, or as JSON: one object a line, also for each request.",
            variable=True,
        ),
    ] = LogFormat.TEXT
    pooling: Annotated[
        Pooling | None,
        Opt(
            help="How texts become embeddings: mean or last (token); of embedding models also cls.",
            metavar="mean|last|cls",
            unset="as the model says, else mean",
            variable=True,
        ),
    ] = EngineConfig.pooling
    prompt_cache_ram: Annotated[
        int | None,
        BeforeValidator(parse_size),
        Opt(
            help="RAM of each model for prompts that left the KV cache, so that conversations "
            "need not be computed again when they come back. 0: none.",
            metavar="SIZE",
            unset="a quarter of free memory, at most 8GiB",
            variable=True,
        ),
    ] = EngineConfig.prompt_cache_ram
    prompt_cache_dir: Annotated[
        Path | None,
        AfterValidator(lambda path: path and path.expanduser()),
        Opt(
            help="Folder that keeps these prompts too, so that they survive a restart. Whoever "
            "can read it can read conversations.",
            metavar="DIR",
            variable=True,
        ),
    ] = EngineConfig.prompt_cache_dir
    prompt_cache_disk: Annotated[
        int,
        BeforeValidator(parse_size),
        Opt(
            help="Most that this folder may hold, of all models together.",
            metavar="SIZE",
            unset="16GiB",
            variable=True,
        ),
    ] = EngineConfig.prompt_cache_disk

    @model_validator(mode="after")
    def _disk_behind_ram(self) -> Self:
        if self.prompt_cache_dir is not None and self.prompt_cache_ram == 0:
            raise ValueError("--prompt-cache-dir needs --prompt-cache-ram, which is 0")
        return self

    def engine_config(self, tree_shape: "StaticShape | None" = None) -> EngineConfig:
        """How the engine is set up."""
        return dataclasses.replace(
            super().engine_config(tree_shape),
            n_slots=self.parallel,
            max_queue=self.max_queue,
            max_stall=self.max_stall / 1000,
            pooling=self.pooling,
            prompt_cache_ram=self.prompt_cache_ram,
            prompt_cache_dir=self.prompt_cache_dir,
            prompt_cache_disk=self.prompt_cache_disk,
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
        """Name or path."""
        return self.words[0] if len(self.words) == 2 else DEFAULT_MODEL

    @property
    def prompt(self) -> str:
        """What is answered."""
        return self.words[-1]

    @property
    def sampling(self) -> SamplingParams:
        """How tokens are drawn."""
        return SamplingParams(temperature=self.temperature, top_p=self.top_p, seed=self.seed)
