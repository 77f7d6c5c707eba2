"""Catalogue names and paths stand for files, or for a message that says how to get them."""

import sys
from pathlib import Path

import pytest

from medusa.files import sha256_of
from models import CACHE_VARIABLE, DEFAULT_MODEL, HubSource, ModelNotFoundError, catalogue, resolve

VICUNA = "vicuna-7b-v1.3"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    return tmp_path


def test_the_default_model_comes_with_the_installation() -> None:
    assert resolve(DEFAULT_MODEL).model.is_file()


def test_a_model_that_was_not_converted_says_how_to(empty_cache: Path) -> None:
    assert catalogue()[VICUNA].model_path is None
    with pytest.raises(ModelNotFoundError, match=f"run: llama-medusa convert {VICUNA}"):
        resolve(VICUNA)


def test_a_converted_model_is_found_in_the_cache_folder(empty_cache: Path) -> None:
    source = catalogue()[VICUNA].source
    assert isinstance(source, HubSource)
    source.model_file.parent.mkdir(parents=True)
    source.model_file.touch()
    assert empty_cache in source.model_file.parents
    assert resolve(VICUNA).model == source.model_file
    assert resolve(VICUNA).heads is None
    source.heads_file.touch()
    assert resolve(VICUNA).heads == source.heads_file


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has a place of its own for caches")
@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"HOME": "/home/someone"}, "/home/someone/.cache"),
        ({"HOME": "/home/someone", "XDG_CACHE_HOME": "/fast/disk"}, "/fast/disk"),
    ],
)
def test_the_cache_folder_is_where_the_system_wants_caches(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], folder: str
) -> None:
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    source = catalogue()[VICUNA].source
    assert isinstance(source, HubSource)
    assert source.model_file == Path(folder, "llama-medusa", VICUNA, f"{VICUNA}.gguf")


def test_heads_beside_a_gguf_are_taken(tmp_path: Path) -> None:
    (tmp_path / "some.gguf").touch()
    assert resolve(str(tmp_path / "some.gguf")).heads is None
    (tmp_path / "some.medusa.gguf").touch()
    assert resolve(str(tmp_path / "some.gguf")).heads == tmp_path / "some.medusa.gguf"


def test_unknown_names_are_reported_with_the_known_ones() -> None:
    with pytest.raises(ModelNotFoundError, match=f"neither .*known: {DEFAULT_MODEL}, {VICUNA}"):
        resolve("no-such-model")


def test_the_files_are_those_that_the_catalogue_means() -> None:
    checksums = catalogue()[DEFAULT_MODEL].source.checksums
    assert set(checksums) == {resolve(DEFAULT_MODEL).model, resolve(DEFAULT_MODEL).heads}
    for path, digest in checksums.items():
        assert sha256_of(path) == digest
