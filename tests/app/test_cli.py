import re
import subprocess
import sys
from pathlib import Path

import pytest

HEADER = "from app.cli import main; main()"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HEADER, *arguments],
        capture_output=True,
        text=True,
        env={"COLUMNS": "200", "PATH": ""},
    )


@pytest.mark.real
def test_generate_streams_an_answer_and_then_its_statistics() -> None:
    result = run("generate", "--max-tokens", "64", "Explain how a bicycle stays upright.")
    assert result.returncode == 0, result.stderr
    assert "bicycle" in result.stdout
    match = re.search(r"([\d.]+) tokens per step, (\d+) of (\d+) drafts accepted", result.stderr)
    assert match, result.stderr
    assert float(match[1]) > 1
    assert 0 < int(match[2]) < int(match[3])


@pytest.mark.parametrize(
    "options", [("--heads", "none", "--no-lookup"), ("--draft-nodes", "0")], ids=" ".join
)
def test_generate_can_do_without_guesses_and_template(
    model_path: Path, options: tuple[str, ...]
) -> None:
    result = run("generate", *options, "--raw", "-n", "8", str(model_path), "One, two, three,")
    assert result.returncode == 0, result.stderr
    assert "four" in result.stdout
    assert "drafts" not in result.stderr


def test_lookup_guesses_without_heads(model_path: Path) -> None:
    prompt = "Ring a ring o roses, " * 4 + "ring a ring o"
    result = run("generate", "--heads", "none", "--raw", "-n", "32", str(model_path), prompt)
    assert result.returncode == 0, result.stderr
    match = re.search(r"(\d+) of (\d+) drafts accepted", result.stderr)
    assert match, result.stderr
    assert 0 < int(match[1]) <= int(match[2])


def test_models_list_shows_the_default() -> None:
    result = run("models", "list")
    assert result.returncode == 0
    assert "smollm2-135m-instruct" in result.stdout


@pytest.mark.parametrize("command", ["serve", "generate", "train"])
def test_help_is_complete(command: str) -> None:
    result = run(command, "--help")
    assert result.returncode == 0
    for option in ("--threads", "--gpu-layers"):
        assert option in result.stdout
    if command == "serve":
        assert "LLAMA_MEDUSA_PORT" in result.stdout
    if command == "train":
        for option in ("--variant", "hydra|shared|full", "--width"):
            assert option in result.stdout.replace("full|shared|hydra", "hydra|shared|full")
    else:
        for option in ("--draft-nodes", "--lookup", "--no-lookup", "--tree"):
            assert option in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("serve", "no-such-model"), "neither a GGUF file nor a catalogue name"),
        (("generate", "--heads", "/nowhere.gguf", "Hi"), "heads file not found"),
        (("generate", "a", "b", "c"), "quote the prompt"),
        (("serve", "--gpu-layers", "some"), "not auto, all or a number"),
        (("serve", "--port", "99999999"), "65535"),
        (("generate", "--draft-nodes", "65", "Hi"), "less than or equal to 64"),
        (("train", "--variant", "cerberus", "--prompts", "p", "--out", "o"), "hydra"),
    ],
)
def test_mistakes_end_in_one_clear_line(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.returncode != 0
    assert message in re.sub(r"\s+", " ", result.stderr)
    assert "Traceback" not in result.stderr


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF but not really")
    for command in (("generate", str(path), "Hi"), ("serve", str(path), "--port", "18099")):
        result = run(*command)
        assert result.returncode == 1
        assert "could not load" in result.stderr
        assert "Traceback" not in result.stderr
