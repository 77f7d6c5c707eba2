"""LoRA adapters as users write them."""

import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class NamedAdapter:
    """An adapter, the name under which it is a model of its own, and its scale then."""

    name: str
    path: Path
    scale: float = 1.0


def parse_adapter(text: str) -> NamedAdapter:
    """The adapter that `[NAME=]FILE[:SCALE]` means; a file that is called so is taken whole.

    Raises:
        ValueError: there is no such file, or the scale is none.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return NamedAdapter(path.stem, path)
    name, equals, rest = text.partition("=") if "=" in text else ("", "", text)
    path, scale = Path(rest).expanduser(), 1.0
    if not path.is_file():
        file, _, number = rest.rpartition(":")
        path = Path(file or rest).expanduser()
        if not path.is_file():
            raise ValueError(f"{path} is not a file")
        scale = _scale(number)
    if equals and not name:
        raise ValueError(f"{text!r} has no name before the =")
    return NamedAdapter(name or path.stem, path, scale)


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not math.isfinite(scale):
        raise ValueError(f"the scale {text!r} is not a number")
    return scale
