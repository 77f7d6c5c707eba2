"""What the settings of several commands share."""

from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from app.settings.option import Opt


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
