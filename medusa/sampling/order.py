"""The order of stages as users of llama.cpp write it."""

from collections.abc import Sequence

from medusa.sampling.params import Stage

_LETTERS = dict(zip("edskypmxt", (
    Stage.PENALTIES, Stage.DRY, Stage.TOP_N_SIGMA, Stage.TOP_K, Stage.TYPICAL_P, Stage.TOP_P,
    Stage.MIN_P, Stage.XTC, Stage.TEMPERATURE,
), strict=True))  # fmt: skip
_NAMES = {stage.replace("_", ""): stage for stage in Stage} | {
    "nucleus": Stage.TOP_P,
    "temp": Stage.TEMPERATURE,
    "typ": Stage.TYPICAL_P,
    "typical": Stage.TYPICAL_P,
    "typicalp": Stage.TYPICAL_P,
}
_WITHOUT_EFFECT = {"adaptivep", "tfsz"}  # off unless switched on by what is not known here
_FIRST = (Stage.PENALTIES, Stage.DRY)


def parse_stages(written: str | Sequence[str]) -> tuple[Stage, ...]:
    """The stages of a list of names, of names with semicolons between them, or of letters.

    Raises:
        ValueError: one is not known, comes twice, or is done to logits after candidates were cut.
    """
    if isinstance(written, str):
        if ";" not in written and _plain(written) not in _NAMES:
            return _checked([_stage(letter, _LETTERS) for letter in written])
        written = written.split(";")
    names = [_plain(name) for name in written]
    return _checked([_stage(name, _NAMES) for name in names if name not in _WITHOUT_EFFECT])


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "").replace("-", "")


def _stage(name: str, known: dict[str, Stage]) -> Stage:
    if name not in known:
        raise ValueError(f"there is no sampler {name!r}; there are {', '.join(Stage)}")
    return known[name]


def _checked(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    if len(set(stages)) < len(stages):
        raise ValueError("a sampler comes twice")
    kinds = [stage in _FIRST for stage in stages]
    if kinds != sorted(kinds, reverse=True):
        raise ValueError("penalties and dry come before the others")
    return tuple(stages)
