import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.engine.prompt_cache import files
from medusa.engine.prompt_cache.disk import (
    Disk,
    FileOnDisk,
    Loaded,
    Removed,
    Result,
    Written,
    too_many,
)
from medusa.engine.prompt_cache.files import UnusableFileError
from medusa.engine.prompt_cache.shelf import Entry

OURS, THEIRS = b"o" * 32, b"t" * 32
SIZE = 1000


def entry(text: int, n_tokens: int = 10) -> Entry:
    tokens = np.full(n_tokens, text, np.int32)
    return Entry((), tokens, SIZE, np.full(SIZE, text, np.uint8))


def saved(folder: Path, text: int, identity: bytes = OURS) -> Path:
    each = entry(text)
    assert each.state is not None
    path = folder / files.file_name(identity, each.tokens)
    files.write(path, identity, each.tokens, each.state)
    os.utime(path, (text, text))
    return path


@contextmanager
def opened(folder: Path, limit: int = 100_000) -> Iterator[Callable[..., list[Result]]]:
    """A disk, and a way to call a method of it and to wait for so many results."""
    news = threading.Semaphore(0)
    disk = Disk(folder, OURS, limit, news.release)

    def after(method: str, *arguments: object, count: int = 1) -> list[Result]:
        getattr(disk, method)(*arguments)
        for _ in range(count):
            assert news.acquire(timeout=60)
        return disk.results()

    after.disk = disk  # type: ignore[attr-defined]
    yield after
    disk.close(60)
    assert not disk._thread.is_alive()


def entries(folder: Path) -> list[Entry]:
    with opened(folder) as after:
        return list(after.disk.entries())  # type: ignore[attr-defined]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    one = entry(1)
    with opened(folder) as after:
        (written,) = after("write", one)
        assert isinstance(written, Written)
        assert written.path is not None
        assert written.path.stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700
    (found,) = entries(folder)
    assert (found.path, found.size, found.state) == (written.path, SIZE, None)
    assert np.array_equal(found.tokens, one.tokens)
    with opened(folder) as after:
        (loaded,) = after("load", found)
        assert isinstance(loaded, Loaded)
        assert loaded.state is not None
        assert loaded.state.tolist() == [1] * SIZE
        after("remove", found.path, count=0)
    assert not list(folder.iterdir())


def test_an_entry_whose_state_is_gone_is_not_written(tmp_path: Path) -> None:
    one = entry(1)
    one.state = None
    with opened(tmp_path) as after:
        assert after("write", one) == [Written(one, None)]
    assert not list(tmp_path.iterdir())


def test_another_models_files_are_let_alone(tmp_path: Path) -> None:
    saved(tmp_path, 1, THEIRS)
    assert entries(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("where", ["magic", "identity", "tokens", "length", "empty"])
def test_a_damaged_file_is_ignored_with_a_line(
    tmp_path: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path, 1)
    content = bytearray(path.read_bytes())
    match where:
        case "length":
            del content[-1]
        case "empty":
            content.clear()
        case _:
            content[{"magic": 0, "identity": 20, "tokens": files._HEADER.size + 3}[where]] ^= 1
    path.write_bytes(content)
    good = saved(tmp_path, 2)
    assert [found.path for found in entries(tmp_path)] == [good]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@given(place=st.integers(0, files._HEADER.size + 4 * 10 + SIZE - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    path = saved(tmp_path_factory.mktemp("flipped"), 1)
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(UnusableFileError):
        files.read_state(path, OURS, entry(1).tokens)


def test_a_damaged_state_is_ignored_when_it_is_wanted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path, 1)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (found,) = entries(tmp_path)
    with opened(tmp_path) as after:
        assert after("load", found) == [Loaded(found, None)]
        path.unlink()
        assert after("load", found) == [Loaded(found, None)]
    assert len(caplog.records) == 2


def test_a_disk_that_cannot_be_written_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = files.write

    def full(path: Path, *_: object) -> None:
        path.with_name(path.name + ".part").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    with opened(tmp_path) as after:
        for text in range(3):
            (result,) = after("write", entry(text))
            assert isinstance(result, Written)
            assert result.path is None
        assert len(caplog.records) == 1
        monkeypatch.setattr(files, "write", write)
        (result,) = after("write", entry(4))
        assert isinstance(result, Written)
        assert result.path is not None


def test_a_folder_that_cannot_be_made_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    one = entry(1)
    with opened(tmp_path / "file") as after:
        assert after.disk.entries() == []  # type: ignore[attr-defined]
        assert after("write", one) == [Written(one, None)]
    assert len(caplog.records) == 1


def test_the_oldest_files_make_room_whosever_they_are(tmp_path: Path) -> None:
    first, second, third = saved(tmp_path, 1), saved(tmp_path, 2, THEIRS), saved(tmp_path, 3)
    (tmp_path / "notes.txt").write_text("not ours" * 1000)
    size = first.stat().st_size
    with opened(tmp_path, limit=3 * size) as after:
        (found, _) = after.disk.entries()  # type: ignore[attr-defined]
        after("load", found)
        results = after("write", entry(4), count=2)
    assert results[0] == Removed(second)
    assert first.exists()
    assert third.exists()
    assert not second.exists()
    assert (tmp_path / "notes.txt").exists()
    with opened(tmp_path, limit=size - 1) as after:
        five = entry(5)
        assert after("write", five) == [Written(five, None)]
    assert first.exists(), "nothing goes for what would not fit anyway"


@given(
    present=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=12),
    size=st.integers(0, 100),
    spare=st.integers(0, 200),
)
def test_no_more_files_go_than_must(present: list[tuple[int, int]], size: int, spare: int) -> None:
    folder = [FileOnDisk(Path(str(i)), *each) for i, each in enumerate(present)]
    limit = size + spare
    gone = too_many(folder, size, limit)
    left = [file for file in folder if file not in gone]
    assert sum(file.size for file in left) + size <= limit
    if gone:
        assert sum(file.size for file in [*left, gone[-1]]) + size > limit
        assert all(gone[-1].used <= file.used for file in left)
