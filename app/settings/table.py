"""The README's table of options."""

from pydantic import BaseModel

from app.settings.option import Option, options_of

BEGIN = "<!-- options: made by `make docs` -->"
END = "<!-- end of options -->"


def options_table(settings: type[BaseModel]) -> str:
    """A Markdown table of a command's options."""
    lines = ["| option | default | meaning |", "|---|---|---|"]
    lines += [_row(option) for option in options_of(settings)]
    return "\n".join(lines)


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
