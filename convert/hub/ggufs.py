"""The GGUFs of a repository or folder: how users name them, and which to take (pure)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self

from convert.errors import ConversionError

HEADS_ENDING = ".medusa.gguf"

_PART = re.compile(r"-(\d{5})-of-(\d{5})$")
_TAG = re.compile(
    r"(?:^|(?<=[-._]))((?:UD-)?(?:I?Q\d|TQ\d|MXFP4|NVFP4)(?:_[0-9A-Z]+)*|BF16|F16|FP16|F32)(?=$|[-.])",
    re.IGNORECASE,
)
_NO_MODEL = ("mmproj", "imatrix")  # in a name: what sees for a model, what one was quantised with
_DRAFTERS = ("mtp-", "eagle3-", "dflash-", "dspark-")  # at its beginning
_BITS = (4, 5, 6, 8, 3, 2, 16, 32, 1)
"""The order in which they are preferred."""


@dataclass(frozen=True)
class HubName:
    """A model of the Hub as users name it, OWNER/NAME[:TAG]; the tag is a quantisation."""

    repo: str
    tag: str | None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None for what is no such name, as for a path to a GGUF."""
        found = re.fullmatch(r"([\w-][\w.-]*/[\w.-]+)(?::([\w.-]+))?", text)
        return cls(found[1], found[2]) if found and not text.lower().endswith(".gguf") else None


@dataclass(frozen=True)
class Gguf:
    """A model: names of all parts of its GGUF, and its quantisation as the name has it, if at all.

    Names are those in the repository, with the folders there.
    """

    parts: tuple[str, ...]
    tag: str | None

    @property
    def stem(self) -> str:
        """The file's name without ending and number of the part."""
        return _PART.sub("", PurePosixPath(self.parts[0]).stem)

    @property
    def label(self) -> str:
        """What a user may ask for it by."""
        return self.tag or self.stem


def ggufs(names: Iterable[str]) -> list[Gguf]:
    """All models whose parts are all there; no projectors, heads or drafters of models."""
    groups: dict[tuple[str, int], dict[int, str]] = {}
    for name in sorted(names):
        path = PurePosixPath(name)
        lower = path.name.lower()
        if (
            not lower.endswith(".gguf")
            or lower.endswith(HEADS_ENDING)
            or lower.startswith(_DRAFTERS)
            or any(word in lower for word in _NO_MODEL)
        ):
            continue
        part = _PART.search(path.stem)
        number, count = (int(part[1]), int(part[2])) if part else (1, 1)
        whole = str(path.with_name(_PART.sub("", path.stem)))
        groups.setdefault((whole, count), {})[number] = name
    return [
        Gguf(tuple(parts[n] for n in range(1, count + 1)), _tag(whole))
        for (whole, count), parts in groups.items()
        if set(parts) == set(range(1, count + 1))
    ]


def choose(found: Sequence[Gguf], tag: str | None) -> Gguf:
    """The model that a tag means, in whatever case; without one Q4_K_M or what is nearest to it.

    Raises:
        ConversionError: none or several are meant; the message lists what there is.
    """
    if tag is None:
        best = min((_rank(each) for each in found), default=None)
        meant = [each for each in found if _rank(each) == best]
    else:
        meant = [each for each in found if tag.lower() in (each.label.lower(), each.stem.lower())]
    if len(meant) == 1:
        return meant[0]
    if meant:
        stems = ", ".join(each.stem for each in meant)
        raise ConversionError(f"several files are meant; name one of them: {stems}")
    known = ", ".join(each.label for each in found) or "none"
    raise ConversionError(f"there is no GGUF {tag or 'file'}; there are: {known}")


def heads_for(chosen: Gguf, names: Iterable[str]) -> str | None:
    """The Medusa heads of a model: named like its file, or the only ones there."""
    found = sorted(name for name in names if name.lower().endswith(HEADS_ENDING))
    named = [name for name in found if PurePosixPath(name).name == chosen.stem + HEADS_ENDING]
    candidates = named or found
    return candidates[0] if len(candidates) == 1 else None


def _tag(whole: str) -> str | None:
    """The last quantisation in the file's name, or else the folder's."""
    path = PurePosixPath(whole)
    for text in (path.name, path.parent.name):
        found = _TAG.findall(text)
        if found:
            tag: str = found[-1]
            return tag.upper()
    return None


def _rank(model: Gguf) -> tuple[int, bool, str]:
    """The least is preferred."""
    if model.tag is None:
        return len(_BITS), True, ""
    number = re.search(r"\d+", model.tag)
    bits = int(number[0]) if number else 0
    return (
        _BITS.index(bits) if bits in _BITS else len(_BITS),
        not model.tag.endswith("_K_M"),
        model.tag,
    )
