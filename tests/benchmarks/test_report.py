"""Figures reach their files, with where they come from, and nothing else in them changes."""

import json
from pathlib import Path

import pytest
import typer
from rich.table import Table

from benchmarks.report import as_markdown, ready, replace_block, report


def figures(value: str) -> Table:
    table = Table("slots", "step ms", title="one decode step")
    table.add_row("1", value)
    table.add_row("8", "9.00")
    return table


def test_a_table_becomes_markdown() -> None:
    assert as_markdown(figures("4.20")).splitlines() == [
        "**one decode step**",
        "",
        "| slots | step ms |",
        "|---|---|",
        "| 1 | 4.20 |",
        "| 8 | 9.00 |",
    ]


def test_figures_are_written_with_command_machine_and_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "step.md"
    monkeypatch.setattr("sys.argv", ["benchmarks", "step", "--markdown", str(path), "--rounds=3"])
    report("step", [figures("4.20")], {"step": [4.2]}, tmp_path / "step.json", path)
    written = json.loads((tmp_path / "step.json").read_text())
    assert written["step"] == [4.2]
    text = path.read_text()
    assert "`python -m benchmarks step --rounds=3` on 20" in text
    assert written["machine"]["cpu"] in text
    assert "commit " in text
    assert "| 1 | 4.20 |" in text


def test_new_figures_take_the_place_of_the_old_and_words_stay(tmp_path: Path) -> None:
    path = tmp_path / "step.md"
    for value in ("4.20", "4.30"):
        report("step", [figures(value)], {}, None, path)
        if value == "4.20":
            path.write_text("# Steps\n\nBefore.\n\n" + path.read_text() + "\nAfter.\n")
    text = path.read_text()
    assert "4.30" in text
    assert "4.20" not in text
    assert text.startswith("# Steps\n\nBefore.\n\n<!-- measured: step -->")
    assert text.endswith("\nAfter.\n")


def test_blocks_of_other_benchmarks_are_left_alone() -> None:
    document = replace_block(replace_block("# Figures\n", "step", "old"), "serving", "kept")
    changed = replace_block(document, "step", r"new \1")
    assert changed == document.replace("old", r"new \1")


def test_folders_of_what_will_be_written_are_made_before_anything_is_measured(
    tmp_path: Path,
) -> None:
    path = tmp_path / "build" / "more" / "compare.json"
    assert ready(path) == path
    assert path.parent.is_dir()
    assert ready(None) is None
    (tmp_path / "file").write_text("")
    with pytest.raises(typer.BadParameter, match="cannot be made a folder"):
        ready(tmp_path / "file" / "compare.json")
