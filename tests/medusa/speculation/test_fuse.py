import logging

import pytest

from medusa.speculation.fuse import Fuse


def fail(fuse: Fuse, doing: str) -> None:
    with fuse(doing):
        raise RuntimeError("broken")


def work(fuse: Fuse, doing: str) -> None:
    with fuse(doing):
        pass


def test_three_failures_in_a_row_blow_a_fuse() -> None:
    fuse = Fuse("part")
    for _ in range(2):
        fail(fuse, "working")
    work(fuse, "working")
    for _ in range(2):
        fail(fuse, "working")
    assert not fuse.blown
    fail(fuse, "working")
    assert fuse.blown
    assert fuse.failures == 5


def test_what_a_part_does_else_does_not_make_up_for_a_failure() -> None:
    """A source that always fails to guess would never be switched off, as it learns well."""
    fuse = Fuse("part")
    for _ in range(3):
        fail(fuse, "guessing")
        work(fuse, "learning")
    assert fuse.blown


def test_the_first_failure_and_the_end_are_logged_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fuse = Fuse("heads")
    with caplog.at_level(logging.DEBUG):
        for _ in range(5):
            fail(fuse, "guessing")
            work(fuse, "guessing")
        assert len(caplog.records) == 1
        assert caplog.records[0].exc_info is not None
        for _ in range(5):
            fail(fuse, "guessing")
    first, end = caplog.messages
    assert "heads failed while guessing" in first
    assert "heads failed 3 times in a row and is switched off: broken" in end


def test_what_is_no_failure_of_the_part_goes_through() -> None:
    fuse = Fuse("part")
    with pytest.raises(KeyboardInterrupt), fuse("working"):
        raise KeyboardInterrupt
    assert fuse.failures == 0
