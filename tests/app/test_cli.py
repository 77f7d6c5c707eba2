import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.servers import free_port
from medusa.files import write_checksum
from models import DEFAULT_MODEL
from tests.architectures.models import SERVED_MODELS
from tests.architectures.refused_models import REFUSED_MODELS
from tests.architectures.writer import write_model


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
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
    result = run("list")
    assert result.returncode == 0
    assert "smollm2-135m-instruct" in result.stdout


def test_files_are_checked_against_their_checksums(tmp_path: Path) -> None:
    path = tmp_path / "a[b].gguf"
    path.write_bytes(b"abc")
    result = run("check", str(path))
    assert (result.returncode, result.stdout) == (0, f"{path}: no checksum is known\n")
    write_checksum(path)
    result = run("check", str(path))
    assert (result.returncode, result.stdout) == (0, f"{path}: as it should be\n")
    path.write_bytes(b"abd")
    result = run("check", str(path))
    assert (result.returncode, result.stdout) == (1, f"{path}: damaged\n")
    assert f"error: not what was downloaded or converted: {path}" in result.stderr
    assert run("check", DEFAULT_MODEL).stdout.count("as it should be") == 2


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
        (("serve", "--rpc", "localhost"), "'localhost' is not HOST:PORT"),
        (("serve", "--rpc", "a:1,[::1]:2"), "'[::1]:2' is not HOST:PORT"),
        (("serve", "--rpc", "a:1,b:65536"), "'b:65536' is not HOST:PORT"),
        (("serve", "--device", "CUDA0,,CUDA1"), "a name of a device is missing"),
        (("serve", "--tensor-split", "3,a"), "unable to parse string as a number"),
        (("serve", "--tensor-split", "0,0"), "not all 0"),
        (("generate", "--device", "CUDA7", "--raw", "Hi"), "there is no device 'CUDA7'"),
        (("worker", "--host", "example.org"), "'example.org' is not an IPv4 address"),
        (("worker", "--device", "CUDA7"), "there is no device 'CUDA7'; there are: CPU ("),
        (("serve", "--port", "99999999"), "65535"),
        (("serve", "--threads", "100000"), "512"),
        (("generate", "--draft-nodes", "65", "Hi"), "less than or equal to 64"),
        (("train", "--variant", "cerberus", "--prompts", "p", "--out", "o"), "hydra"),
        (("train", "--prompts", "/nowhere.jsonl", "--out", "o"), "/nowhere.jsonl is not a file"),
        (("serve", "--tree", "/nowhere.json"), "'--tree' (env var: 'LLAMA_MEDUSA_TREE'): /nowhere"),
        (("serve", "--host", "256.0.0.1"), "cannot listen on --host 256.0.0.1"),
        (("convert", "heads", "x", "--out", "o", "--base", "/nowhere.gguf"), "'--base'"),
        (("convert", "no-such-model"), "not in the catalogue"),
        (("serve", "no/such.gguf"), "neither a GGUF file nor a catalogue name"),
        (("serve", "a.gguf", "a.gguf"), "the same model is given twice"),
        (("serve", "a.gguf", "b.gguf", "--heads", "h.gguf"), "--heads PATH is for one model"),
        (("serve", "--lora", "/nowhere.gguf"), "/nowhere.gguf is not a file"),
        (("convert", "lora", "x", "--out", "o", "--base", "/nowhere.gguf"), "'--base'"),
        (("pull", "vicuna-7b-v1.3"), "run: llama-medusa convert vicuna-7b-v1.3"),
        (("pull", "something"), "is not OWNER/NAME"),
        (("rm", DEFAULT_MODEL, "-y"), "belongs to a Python package"),
        (("rm", "nobody/nothing", "-y"), "not among the models that can be deleted"),
    ],
)
def test_mistakes_end_in_one_clear_line(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.returncode != 0
    assert message in re.sub(r"\s+", " ", result.stderr)
    assert "Traceback" not in result.stderr


def test_a_port_in_use_is_told_before_anything_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("serve", "--port", str(taken.getsockname()[1]))
    assert result.returncode == 1
    assert "cannot listen on --host 127.0.0.1" in result.stderr
    assert result.stdout == ""


def test_a_template_that_is_no_text_is_refused_by_its_option(tmp_path: Path) -> None:
    path = tmp_path / "template.jinja"
    path.write_bytes(b"\xff\xfe")
    result = run("generate", "--chat-template", str(path), "Hi")
    assert result.returncode == 2
    assert "'--chat-template'" in result.stderr
    assert "is not a text in UTF-8" in result.stderr


_HEAVY = ["llama_cpp", "torch", "fastapi", "uvicorn", "huggingface_hub", "jinja2"]
_WHAT_IS_LOADED = f"""
import sys
from pathlib import Path
from app.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
heavy = [name for name in {_HEAVY} if name in sys.modules]
maps = Path("/proc/self/maps")
libraries = maps.read_text() if maps.exists() else ""
heavy += [name for name in ("libmedusa_kernels", "libllama", "libggml") if name in libraries]
print("heavy:", heavy)
"""


@pytest.mark.parametrize("arguments", [("--help",), ("serve", "--help"), ("pull", "--help")])
def test_nothing_heavy_is_loaded_to_say_what_there_is(arguments: tuple[str, ...]) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _WHAT_IS_LOADED, *arguments], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("heavy: []\n")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF but not really")
    for command in (
        ("generate", str(path), "Hi"),
        ("serve", str(path), "--port", str(free_port())),
    ):
        result = run(*command)
        assert result.returncode == 1
        assert "is not supported" in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", REFUSED_MODELS)
def test_a_model_that_cannot_generate_text_is_refused_in_one_line(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / f"{name}.gguf"
    write_model(REFUSED_MODELS[name], path)
    for command in (
        ("generate", str(path), "Hi"),
        ("serve", str(path), "--port", str(free_port())),
    ):
        result = run(*command)
        assert result.returncode == 1
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"error: {path}: ")
        assert "; use " in line


def test_models_need_names_of_their_own(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "same.gguf" for folder in "ab"]
    for path in paths:
        path.parent.mkdir()
        path.touch()
    result = run("serve", *map(str, paths), "--port", str(free_port()), "--no-supervise")
    assert result.returncode == 1
    assert "two of the models are called 'same'" in result.stderr


def test_a_file_that_was_cut_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    write_model(SERVED_MODELS["llama"], path)
    path.write_bytes(path.read_bytes()[:-4096])
    result = run("generate", str(path), "Hi")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "it ends before its tensor" in line


def test_a_context_for_which_there_is_no_memory_is_refused_with_the_numbers(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tiny.gguf"
    write_model(SERVED_MODELS["llama"], path)
    result = run("generate", "--ctx-size", "1000000000000", str(path), "Hi")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "a context size of " in line


def test_doctor_tells_how_a_model_would_be_served(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_model(SERVED_MODELS["gemma3"], path)
    result = run("doctor", "--seconds", "0", str(path))
    assert result.returncode == 0, result.stderr
    assert "memory:   sliding windows" in result.stdout
    assert "sampling:  compiled\n" in result.stdout
    ours = "kernels:   ours" in result.stdout
    assert ("results:  exact" in result.stdout) == ours
