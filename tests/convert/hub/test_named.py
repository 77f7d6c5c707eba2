"""Models by their names on the Hub, from the command line: served, listed, removed."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models import CACHE_VARIABLE
from tests.app.tiny_model import write_tiny_model
from tests.convert.hub.hub_server import TOKEN, FakeHub, running_hub

REPO = "someone/tiny-GGUF"
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}ab"
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_tiny_model(path)
    return path.read_bytes()


@pytest.fixture
def hub(gguf: bytes) -> Iterator[FakeHub]:
    with running_hub() as hub:
        hub.repos = {
            REPO: {
                "README.md": b"# Tiny",
                "tiny-Q4_K_M.gguf": gguf,
                "tiny-Q8_0.gguf": gguf + bytes(16),
                "mmproj-tiny-F16.gguf": b"sees",
                "chat_template.jinja": TEMPLATE.encode(),
            }
        }
        yield hub


@pytest.fixture
def run(hub: FakeHub, tmp_path: Path) -> Run:
    """Run llama-medusa as a user does; gives the exit status and everything printed."""

    def run(*arguments: str, answer: str = "", **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "app", *arguments],
            env={
                **os.environ,
                "HF_ENDPOINT": hub.endpoint,
                "HF_HOME": str(tmp_path / "hf"),
                CACHE_VARIABLE: str(tmp_path / "cache"),
                "COLUMNS": "400",
                "HF_TOKEN": "",
                **environment,
            },
            input=answer,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    return run


def generate(run: Run, name: str, *options: str, **environment: str) -> tuple[int, str]:
    settings = ("--max-tokens", "3", "--threads", "1", "--ctx-size", "256")
    return run("generate", name, "ab", *settings, *options, **environment)


def test_a_name_is_downloaded_once_and_then_needs_no_hub(hub: FakeHub, run: Run) -> None:
    status, output = generate(run, REPO)
    assert status == 0, output
    assert f"downloading {REPO}: 2 files" in output
    assert "3 tokens" in output  # through the repository's template: the model has none
    sent = {path.rsplit("/", 1)[-1] for method, path, _ in hub.requests if "resolve" in path}
    assert sent == {"tiny-Q4_K_M.gguf", "chat_template.jinja"}
    hub.requests.clear()
    for name in (REPO, f"{REPO}:q4_k_m"):
        status, output = generate(run, name)
        assert status == 0, output
    assert generate(run, REPO, "--offline")[0] == 0
    assert hub.requests == []


def test_what_is_not_there_is_told(hub: FakeHub, run: Run) -> None:
    status, output = generate(run, f"{REPO}:Q6_K")
    assert status == 1
    assert f"{REPO}: there is no GGUF Q6_K; there are: Q4_K_M, Q8_0" in output
    hub.repos["someone/weights"] = {"config.json": b"{}", "model.safetensors": b""}
    status, output = generate(run, "someone/weights")
    assert status == 1
    assert "holds no GGUF; to make one of a checkpoint, run: llama-medusa convert model" in output
    status, output = generate(run, "nobody/nothing")
    assert status == 1
    assert "no model repository nobody/nothing" in output


@pytest.mark.parametrize(
    ("options", "environment"), [(("--offline",), {}), ((), {"HF_HUB_OFFLINE": "1"})]
)
def test_offline_only_the_cache_is_used(
    hub: FakeHub, run: Run, options: tuple[str, ...], environment: dict[str, str]
) -> None:
    status, output = generate(run, REPO, *options, **environment)
    assert status == 1
    assert "is not in the Hub's cache" in output
    assert hub.requests == []


def test_gated_models_need_a_token(hub: FakeHub, run: Run) -> None:
    hub.gated = {REPO}
    status, output = run("pull", REPO)
    assert status == 1
    assert "give your token with --hf-token or HF_TOKEN" in output
    assert run("pull", REPO, "--hf-token", TOKEN)[0] == 0


def test_a_broken_download_is_finished_by_the_next_one(hub: FakeHub, run: Run) -> None:
    hub.repos[REPO]["tiny-Q4_K_M.gguf"] += bytes(30 << 20)
    hub.break_after, hub.n_breaks = {"tiny-Q4_K_M.gguf": 25 << 20}, 100
    status, output = run("pull", REPO)
    assert status == 1
    assert "run the same command again" in output
    hub.break_after = {}
    hub.requests.clear()
    status, output = run("pull", REPO)
    assert status == 0, output
    assert "ready: llama-medusa serve someone/tiny-GGUF:Q4_K_M" in output
    assert hub.ranges("chat_template.jinja") == []


def test_all_parts_and_the_heads_of_a_model_come(hub: FakeHub, run: Run, tmp_path: Path) -> None:
    names = ["Q8_0/m-Q8_0-00001-of-00002.gguf", "Q8_0/m-Q8_0-00002-of-00002.gguf"]
    hub.repos = {REPO: dict.fromkeys([*names, "m.medusa.gguf", "m-Q2_K.gguf"], b"GGUF")}
    status, output = run("pull", REPO)
    assert status == 0, output
    assert {path.name for path in (tmp_path / "hf").rglob("*.gguf")} == {
        *(name.rsplit("/", 1)[-1] for name in names), "m.medusa.gguf"
    }  # fmt: skip
    status, output = run("list")
    line = next(line for line in output.splitlines() if REPO in line)
    assert f"{REPO}:Q8_0" in line
    assert "8 bytes" in line
    assert "yes" in line


def test_models_are_listed_and_removed(hub: FakeHub, run: Run, tmp_path: Path) -> None:
    for tag in ("Q4_K_M", "Q8_0"):
        assert run("pull", f"{REPO}:{tag}")[0] == 0
    assert all(f"{REPO}:{tag}" in run("list")[1] for tag in ("Q4_K_M", "Q8_0"))
    status, output = run("rm", f"{REPO}:q8_0", answer="n\n")
    assert status == 0
    assert f"delete {REPO}:Q8_0 (" in output
    assert f"{REPO}:Q8_0" in run("list")[1]
    assert run("rm", f"{REPO}:q8_0", answer="y\n")[0] == 0
    listed = run("list")[1]
    assert f"{REPO}:Q8_0" not in listed
    assert f"{REPO}:Q4_K_M" in listed
    assert generate(run, REPO, "--offline")[0] == 0
    assert run("rm", REPO, "-y")[0] == 0
    assert REPO not in run("list")[1]
    left = [
        path for path in (tmp_path / "hf").rglob("*") if path.is_file() and "models--" in str(path)
    ]
    assert [path for path in left if ".locks" not in path.parts] == []


def test_converted_models_are_removed(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "vicuna-7b-v1.3"
    folder.mkdir(parents=True)
    (folder / "vicuna-7b-v1.3.gguf").write_bytes(b"GGUF")
    status, output = run("rm", "vicuna-7b-v1.3", answer="n\n")
    assert f"delete {folder} (4 bytes)?" in output
    assert folder.exists()
    assert run("rm", "vicuna-7b-v1.3", "--yes")[0] == 0
    assert not folder.exists()
    status, output = run("rm", "vicuna-7b-v1.3", "--yes")
    assert status == 1
    assert "is not on this machine" in output


def test_files_of_the_hub_are_checked_against_its_checksums(
    hub: FakeHub, run: Run, tmp_path: Path, gguf: bytes
) -> None:
    assert run("pull", REPO)[0] == 0
    (link,) = (tmp_path / "hf").rglob("tiny-Q4_K_M.gguf")
    blob = link.parent / hashlib.sha256(gguf).hexdigest()  # as the Hub keeps large files
    link.resolve().rename(blob)
    link.unlink()
    link.symlink_to(blob)
    assert "as it should be" in run("check", REPO)[1]
    blob.write_bytes(gguf + b"x")
    assert run("check", REPO)[0] == 1
