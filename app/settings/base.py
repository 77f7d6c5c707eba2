"""What the settings of several commands share."""

from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from app.settings.option import Opt
from medusa.engine.config import EngineConfig
from medusa.llama.params import ALL_LAYERS, MAX_THREADS


def _existing_file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path} is not a file")
    return path


def _text_file(path: Path) -> Path:
    try:
        path.read_text("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text in UTF-8") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    return path


def _parse_gpu_layers(value: object) -> object:
    """None for auto, -1 for all, else the number."""
    if not isinstance(value, str):
        return value
    if value in ("auto", "all"):
        return None if value == "auto" else ALL_LAYERS
    try:
        return max(ALL_LAYERS, int(value))
    except ValueError:
        raise ValueError(f"{value!r} is not auto, all or a number") from None


def parse_size(value: object) -> object:
    """Bytes of a size such as 500MB, 4GiB or 0."""
    if not isinstance(value, str):
        return value
    try:
        return int(_BYTE_SIZE.validate_python(value))
    except ValidationError:
        raise ValueError(f"{value!r} is not a size such as 500MB or 4GiB") from None


_BYTE_SIZE = TypeAdapter(ByteSize)
ExistingFile = Annotated[Path, AfterValidator(_existing_file)]
TextFile = Annotated[ExistingFile, AfterValidator(_text_file)]
MODEL_HELP = (
    "Catalogue name (see `llama-medusa list`), path of a GGUF file, or OWNER/NAME[:QUANTISATION] "
    "of the Hugging Face Hub"
)
ModelName = Annotated[str, Opt(help=f"{MODEL_HELP}.", positional=True, variable=True)]


class Settings(BaseModel):
    """What the user chose, checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ComputeSettings(Settings):
    """What a model is computed with."""

    threads: Annotated[
        int | None,
        Opt(
            help="CPU threads.",
            ge=1,
            le=MAX_THREADS,
            short="-t",
            unset="the cores this process may use",
            variable=True,
        ),
    ] = EngineConfig.n_threads
    gpu_layers: Annotated[
        int | None,
        BeforeValidator(_parse_gpu_layers),
        Opt(
            help="Layers kept on the GPU: auto, all or a number; auto: all when llama.cpp was "
            "built for a GPU and finds one.",
            short="-ngl",
            metavar="auto|all|N",
            unset="auto",
            variable=True,
        ),
    ] = None
    verbose: Annotated[bool, Opt(help="Log what llama.cpp says.", short="-v", variable=True)] = (
        False
    )


class HubSettings(Settings):
    """How to talk to the Hugging Face Hub."""

    hf_token: Annotated[
        str | None,
        Opt(help="Access token of the Hub, for gated repositories.", variable="HF_TOKEN"),
        Field(repr=False),
    ] = None
    offline: Annotated[
        bool,
        Opt(help="Do without the Hub: use only what has been downloaded before.", variable=True),
    ] = False
