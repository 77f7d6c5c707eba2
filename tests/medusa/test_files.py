from pathlib import Path

import pytest

from medusa.files import noted_checksum, sha256_of, whole_file, write_checksum


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "answer.txt"
    with whole_file(path) as partial:
        partial.write_text("42")
        assert not path.exists()
    assert path.read_text() == "42"
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_half_way_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "answer.txt"
    path.write_text("old")

    def write_half() -> None:
        with whole_file(path) as partial:
            partial.write_text("ne")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_checksum_lies_beside_its_file_as_sha256sum_has_it(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"abc")
    assert noted_checksum(path) is None
    write_checksum(path)
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (tmp_path / "a.gguf.sha256").read_text() == f"{digest}  a.gguf\n"
    assert noted_checksum(path) == sha256_of(path) == digest
