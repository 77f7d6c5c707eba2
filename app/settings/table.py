"""The tables of options in the documentation."""

from collections.abc import Iterable
from pathlib import Path

from app.settings import ClusterSettings, ServerSettings
from app.settings.option import Option, options_of

BEGIN = "<!-- options: made by `make docs` -->"
END = "<!-- end of options -->"

README = Path(__file__).parents[2] / "README.md"
TABLES = {
    README: options_of(ServerSettings),
    README.parent / "docs" / "cluster.md": [
        option
        for option in options_of(ClusterSettings)
        if option.name not in ServerSettings.model_fields
    ],
}
"""The files that have one, and the options in it."""


def options_table(options: Iterable[Option]) -> str:
    """A Markdown table of options."""
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *map(_row, options)])


def with_table(text: str, table: str) -> str:
    """A text with the table between its two marks.

    Raises:
        ValueError: the text lacks a mark.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"there is no place for the table: {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def _row(option: Option) -> str:
    flags = [flag for flag in (option.flag, option.negation, option.opt.short) if flag]
    default = option.default_text
    if option.opt.unset is None:
        default = f"`{default}`"
    names = ", ".join(f"`{flag}`" for flag in flags)
    return f"| {names} | {default} | {option.opt.help} |"
