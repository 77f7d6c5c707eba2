"""Catalogue names and paths stand for files, or for a message that says how to get them."""

from pathlib import Path

import pytest

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


def test_the_cache_folder_is_under_home_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("HOME", "/home/someone")
    source = catalogue()[VICUNA].source
    assert isinstance(source, HubSource)
    expected = f"/home/someone/.cache/llama-medusa/{VICUNA}/{VICUNA}.gguf"
    assert source.model_file == Path(expected)


def test_heads_beside_a_gguf_are_taken(tmp_path: Path) -> None:
    (tmp_path / "some.gguf").touch()
    assert resolve(str(tmp_path / "some.gguf")).heads is None
    (tmp_path / "some.medusa.gguf").touch()
    assert resolve(str(tmp_path / "some.gguf")).heads == tmp_path / "some.medusa.gguf"


def test_unknown_names_are_reported_with_the_known_ones() -> None:
    with pytest.raises(ModelNotFoundError, match=f"neither .*known: {DEFAULT_MODEL}, {VICUNA}"):
        resolve("no-such-model")
