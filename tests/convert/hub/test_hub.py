"""The command line against a server that speaks the Hub's API."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from medusa.speculation.heads.reading import read_heads
from models import CACHE_VARIABLE
from tests.convert import tiny_checkpoints as tiny
from tests.convert.hub.hub_server import COMMIT, TOKEN, FakeHub, running_hub
from tests.convert.tiny_heads import tiny_heads
from tests.convert.tiny_tokenizers import write_sentencepiece

REPO, HEADS_REPO = "lmsys/vicuna-7b-v1.3", "FasterDecoding/medusa-vicuna-7b-v1.3"
FIRST_SHARD = "pytorch_model-00001-of-00002.bin"
BREAK = 11_000_000
"""Bytes after which the connection breaks: the Hub's client writes chunks of 10 MiB."""

Repositories = dict[str, dict[str, bytes]]
Run = Callable[..., tuple[int, str]]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Repositories:
    """The files of both repositories, in Vicuna's layout."""
    model_folder = tmp_path_factory.mktemp("model")
    n_vocab = write_sentencepiece(model_folder)
    model = tiny.tiny_llama(n_vocab, hidden_size=512, intermediate_size=2048)
    tiny.write_config(model_folder, model)
    tiny.write_bins(model_folder, tiny.state_of(model, torch.float16), 2)
    (model_folder / "README.md").write_text("# Vicuna")
    heads_folder = tmp_path_factory.mktemp("heads")
    torch.save(tiny_heads(5, 1, 512, n_vocab).state_dict(), heads_folder / "medusa_lm_head.pt")
    (heads_folder / "config.json").write_text('{"medusa_num_heads": 2}')
    return {REPO: contents(model_folder), HEADS_REPO: contents(heads_folder)}


@pytest.fixture
def hub(files: Repositories) -> Iterator[FakeHub]:
    with running_hub() as hub:
        hub.repos = {repo: dict(content) for repo, content in files.items()}
        yield hub


@pytest.fixture
def run(hub: FakeHub, tmp_path: Path) -> Run:
    """Run llama-medusa as a user does; gives the exit status and everything printed."""

    def run(*arguments: object, **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "app", *map(str, arguments)],
            env={
                **os.environ,
                "HF_ENDPOINT": hub.endpoint,
                "HF_HOME": str(tmp_path / "hf"),
                CACHE_VARIABLE: str(tmp_path / "cache"),
                "COLUMNS": "400",
                "HF_TOKEN": "",
                "HF_HUB_OFFLINE": "0",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    return run


def test_one_command_gets_a_model_that_serve_finds(hub: FakeHub, run: Run, tmp_path: Path) -> None:
    status, output = run("convert", "vicuna-7b-v1.3")
    assert status == 0, output
    assert f"{REPO}: 6 files" in output
    assert "disk needed:" in output
    assert "ready: llama-medusa serve vicuna-7b-v1.3" in output
    folder = tmp_path / "cache" / "vicuna-7b-v1.3"
    assert sorted(path.name for path in folder.iterdir()) == [
        "vicuna-7b-v1.3.gguf",
        "vicuna-7b-v1.3.gguf.sha256",
        "vicuna-7b-v1.3.medusa.gguf",
        "vicuna-7b-v1.3.medusa.gguf.sha256",
    ]
    assert read_heads(folder / "vicuna-7b-v1.3.medusa.gguf").header.n_heads == 5
    assert not any("README" in path for _, path, _ in hub.requests)
    status, output = run("generate", "vicuna-7b-v1.3", "Hello", "--max-tokens", 3, "--threads", 1)
    assert status == 0, output
    assert "3 tokens" in output


def test_the_users_draft_vocabulary_wins_over_the_catalogues(
    hub: FakeHub, run: Run, tmp_path: Path
) -> None:
    assert run("convert", "vicuna-7b-v1.3", "--draft-vocab", 300)[0] == 0
    heads = tmp_path / "cache" / "vicuna-7b-v1.3" / "vicuna-7b-v1.3.medusa.gguf"
    assert read_heads(heads).header.n_draft == 300


def start_of(requested: str | None) -> int:
    """The first byte of a Range header."""
    assert requested is not None
    return int(requested.removeprefix("bytes=").split("-")[0])


def test_a_broken_download_goes_on_where_it_stopped(hub: FakeHub, run: Run, tmp_path: Path) -> None:
    hub.break_after = {FIRST_SHARD: BREAK}
    status, output = run("convert", "model", REPO, "--outtype", "f16", "--out", tmp_path / "m.gguf")
    assert status == 0, output
    first, second = hub.ranges(FIRST_SHARD)
    assert first is None
    assert 0 < start_of(second) <= BREAK


def test_after_a_failure_only_unfinished_files_are_downloaded(
    hub: FakeHub, run: Run, tmp_path: Path
) -> None:
    hub.break_after, hub.n_breaks = {FIRST_SHARD: BREAK}, 100
    command = ("convert", "model", REPO, "--outtype", "f16", "--out", tmp_path / "m.gguf")
    status, output = run(*command)
    assert status == 1
    assert "error: " in output
    assert "run the same command again" in output
    assert not (tmp_path / "m.gguf").exists()
    hub.break_after = {}
    hub.requests.clear()
    status, output = run(*command)
    assert status == 0, output
    assert len(hub.ranges(FIRST_SHARD)) == 1
    assert hub.ranges("tokenizer.model") == []


def test_what_is_cached_converts_offline(hub: FakeHub, run: Run, tmp_path: Path) -> None:
    command = ("convert", "model", REPO, "--outtype", "f16", "--out", tmp_path / "m.gguf")
    status, output = run(*command, "--offline")
    assert status == 1
    assert "is not in the Hub's cache" in output
    assert hub.requests == []
    assert run(*command)[0] == 0
    (tmp_path / "m.gguf").unlink()
    hub.requests.clear()
    status, output = run(*command, HF_HUB_OFFLINE="1")
    assert status == 0, output
    assert hub.requests == []
    assert (tmp_path / "m.gguf").exists()


def test_heads_and_a_revision(hub: FakeHub, run: Run, tmp_path: Path) -> None:
    command = ("convert", "heads", HEADS_REPO, "--base", tmp_path / "m.gguf")
    assert run("convert", "model", REPO, "--out", tmp_path / "m.gguf", "--revision", "v1.3")[0] == 0
    status, output = run(*command, "--out", tmp_path / "h.gguf", "--revision", COMMIT)
    assert status == 0, output
    status, output = run(*command, "--out", tmp_path / "i.gguf", "--revision", "v9")
    assert status == 1
    assert f"{HEADS_REPO} has no revision v9" in output


def test_gated_repositories_need_a_token(hub: FakeHub, run: Run, tmp_path: Path) -> None:
    hub.gated = {REPO}
    command = ("convert", "model", REPO, "--out", tmp_path / "m.gguf")
    status, output = run(*command)
    assert status == 1
    assert "accept them on the Hub's page and give your token" in output
    assert "Traceback" not in output
    assert run(*command, "--hf-token", TOKEN)[0] == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nobody/nothing", "no model repository nobody/nothing"),
        ("no-such-folder", "neither a folder nor a repository"),
        (HEADS_REPO, f"{HEADS_REPO} holds no model"),
    ],
)
def test_sources_that_do_not_exist_are_reported(
    source: str, message: str, run: Run, tmp_path: Path
) -> None:
    status, output = run("convert", "model", source, "--out", tmp_path / "m.gguf")
    assert status == 1
    assert message in output
    assert "Traceback" not in output


def test_a_hub_that_cannot_be_reached_is_reported(hub: FakeHub, run: Run, tmp_path: Path) -> None:
    command = ("convert", "model", REPO, "--out", tmp_path / "m.gguf")
    status, output = run(*command, HF_ENDPOINT="http://127.0.0.1:9")
    assert status == 1
    assert "the connection to the Hub at http://127.0.0.1:9 failed" in output
    assert "Traceback" not in output


def test_a_repository_of_ggufs_is_used_as_it_is(hub: FakeHub, run: Run, tmp_path: Path) -> None:
    made = tmp_path / "made.gguf"
    assert run("convert", "model", REPO, "--outtype", "q8_0", "--out", made)[0] == 0
    hub.repos = {
        "someone/model-GGUF": {"model.Q8_0.gguf": made.read_bytes(), "model.Q2_K.gguf": b""}
    }
    out = tmp_path / "used.gguf"
    status, output = run(
        "convert", "model", "someone/model-GGUF", "--outtype", "q8_0", "--out", out
    )
    assert status == 0, output
    assert out.read_bytes() == made.read_bytes()
    assert hub.ranges("model.Q2_K.gguf") == []
