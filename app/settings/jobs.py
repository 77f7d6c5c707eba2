"""Settings of the commands that make or check something: train, convert, doctor."""

from pathlib import Path
from typing import Annotated

from app.settings.base import (
    MODEL_HELP,
    ExistingFile,
    HubSettings,
    ModelName,
    Settings,
    TextFile,
)
from app.settings.compute import ComputeSettings
from app.settings.option import Opt
from convert.outtypes import HeadsOutType, OutType
from medusa.llama.params import MAX_SEQUENCES
from medusa.speculation.heads.header import Variant
from medusa.training.config import FitConfig
from models import DEFAULT_MODEL


class TrainSettings(ComputeSettings, HubSettings):
    """What heads are trained, on what."""

    model: ModelName = DEFAULT_MODEL
    prompts: Annotated[TextFile, Opt(help='JSON lines, each {"prompt": "text"}.')]
    out: Annotated[Path, Opt(help="Heads file to write (GGUF).")]
    tokens: Annotated[int, Opt(help="Tokens the model writes to learn from.", ge=1000)] = 150_000
    init_from: Annotated[
        ExistingFile | None,
        Opt(
            help="Heads of the same model to go on from; kind, sizes and draft vocabulary stay "
            "theirs.",
            unset="new heads",
        ),
    ] = None
    n_heads: Annotated[int, Opt(help="Heads to train.", ge=1, le=8)] = FitConfig.n_heads
    variant: Annotated[
        Variant,
        Opt(
            help="hydra: a head also sees the token before its own. shared: Medusa heads with the "
            "model's output matrix. full: with one of their own, the official layout."
        ),
    ] = FitConfig.variant
    layers: Annotated[
        int, Opt(help="ResBlocks per head; Hydra: cells, the last one reused.", ge=1, le=8)
    ] = FitConfig.n_layers
    width: Annotated[int, Opt(help="Inner width of a Hydra cell, divisible by 32.", ge=32)] = (
        FitConfig.width
    )
    rank: Annotated[
        int,
        Opt(
            help="Inner width of the Hydra heads' output matrix, divisible by 32; "
            "0: they use the model's.",
            ge=0,
        ),
    ] = FitConfig.rank
    draft_vocab: Annotated[
        int,
        Opt(
            help="Propose only this many most frequent tokens; 0: all. Never changes the output.",
            ge=0,
        ),
    ] = FitConfig.draft_vocab or 0
    epochs: Annotated[int, Opt(help="Passes over the data.", ge=1)] = FitConfig.epochs
    learning_rate: Annotated[float, Opt(help="The highest, soon after the start.", ge=0)] = (
        FitConfig.learning_rate
    )
    parallel: Annotated[
        int, Opt(help="Answers written at the same time.", ge=1, le=MAX_SEQUENCES)
    ] = 32

    @property
    def fit_config(self) -> FitConfig:
        """What is trained and how."""
        return FitConfig(
            n_heads=self.n_heads,
            n_layers=self.layers,
            variant=self.variant,
            width=self.width,
            rank=self.rank,
            draft_vocab=self.draft_vocab or None,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
        )


class RepositorySettings(HubSettings):
    """What is converted to which file."""

    source: Annotated[
        str,
        Opt(
            help="Repository of the Hub, or a local folder or file.",
            metavar="REPO_OR_DIR",
            positional=True,
        ),
    ]
    out: Annotated[Path, Opt(help="GGUF file to write.")]
    revision: Annotated[
        str | None, Opt(help="Branch, tag or commit of the repository.", unset="the main branch")
    ] = None


class DraftVocabSettings(Settings):
    """Which tokens converted heads may propose."""

    draft_vocab: Annotated[
        int | None,
        Opt(
            help="Propose only this many most frequent tokens (as many as there are: all); "
            "smaller, faster, never other text.",
            ge=1,
            unset="all, or the catalogue's number",
        ),
    ] = None
    draft_text: Annotated[
        TextFile | None,
        Opt(
            help="Text like the answers you expect; its tokens come first in the draft vocabulary."
        ),
    ] = None


class ConvertModelSettings(RepositorySettings):
    """A model to convert."""

    outtype: Annotated[OutType, Opt(help="Number format.")] = OutType.Q4_K_M
    chat_template: Annotated[
        TextFile | None, Opt(help="Jinja file, for a model that carries no template.")
    ] = None


class ConvertHeadsSettings(RepositorySettings, DraftVocabSettings):
    """Medusa heads to convert: medusa_lm_head, or a model with the heads in its shards."""

    base: Annotated[ExistingFile, Opt(help="GGUF of the model the heads belong to.")]
    outtype: Annotated[HeadsOutType, Opt(help="Number format.")] = HeadsOutType.F16


class ConvertLoraSettings(RepositorySettings):
    """A LoRA adapter of PEFT's to convert."""

    base: Annotated[ExistingFile, Opt(help="GGUF of the model that it was trained on.")]


class ConvertCatalogueSettings(HubSettings, DraftVocabSettings):
    """A catalogue model to get and convert with its heads."""

    name: Annotated[str, Opt(help="Name in the catalogue: llama-medusa list.", positional=True)]
    outtype: Annotated[
        OutType | None, Opt(help="Number format of the model.", unset="the catalogue's")
    ] = None
    heads_outtype: Annotated[
        HeadsOutType | None, Opt(help="Number format of the heads.", unset="the catalogue's")
    ] = None


class PullSettings(HubSettings):
    """A model to download."""

    name: Annotated[
        str, Opt(help="OWNER/NAME[:QUANTISATION] of the Hugging Face Hub.", positional=True)
    ]


class RemoveSettings(Settings):
    """A model to delete."""

    name: Annotated[
        str,
        Opt(
            help="Name as `llama-medusa list` shows it; OWNER/NAME: all quantisations of it.",
            positional=True,
        ),
    ]
    yes: Annotated[bool, Opt(help="Do not ask.", short="-y")] = False


class CheckSettings(HubSettings):
    """A model whose files are checked."""

    name: Annotated[str, Opt(help=f"{MODEL_HELP}.", positional=True)]


class DoctorSettings(HubSettings):
    """What is looked at, and how thoroughly."""

    model: Annotated[
        str | None,
        Opt(
            help=f"Also say how this model would be served. {MODEL_HELP}.",
            unset="none",
            positional=True,
        ),
    ] = None
    seconds: Annotated[float, Opt(help="How long to compare speeds.", ge=0)] = 10.0
